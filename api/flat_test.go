package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// TestDatastoreWithoutDatabases: its users are managed, and whatever names a database or a host is refused before a guest hears of it.
func TestDatastoreWithoutDatabases(t *testing.T) {
	w := newWorld(t, nil, nil)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		for _, d := range datastoreFixture {
			for _, name := range d.versions {
				v, err := tx.DatastoreVersion(ctx, versionID(d.name, name))
				if err != nil {
					return err
				}
				v.Capabilities.Databases, v.Capabilities.UserHosts, v.Capabilities.RootName = false, false, "default"
				if err := tx.PutDatastoreVersion(ctx, v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	id := w.built(t)
	path := "/instances/" + id
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path+"/users", `{"users":[{"name":"anna","password":"secret-1"}]}`, nil)
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"/users", "", nil)
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"/users/anna", "", nil)
	var root wire.RootBody
	w.must(t, http.StatusOK, "member", http.MethodPost, path+"/root", "", &root)
	if root.User.Name != "default" || root.User.Password == "" {
		t.Errorf("root is %+v", root.User)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{http.MethodGet, path + "/databases", "", 501, "The 'databases' operation is not supported for the 'mysql' datastore."},
		{http.MethodPost, path + "/databases", `{"databases":[{"name":"shop"}]}`, 501, "The 'databases' operation is not supported"},
		{http.MethodDelete, path + "/databases/shop", "", 501, "The 'databases' operation is not supported"},
		{http.MethodPost, path + "/users", `{"users":[{"name":"bert","password":"secret-1","databases":[{"name":"shop"}]}]}`, 400, "Databases with names"},
		{http.MethodPost, path + "/users", `{"users":[{"name":"bert","password":"secret-1","host":"10.0.0.1"}]}`, 400, "not bound to hosts"},
		{http.MethodPut, path + "/users/anna/databases", `{"databases":[{"name":"shop"}]}`, 400, "Databases with names"},
		{
			http.MethodPost, "/instances",
			`{"instance":{"name":"n","flavorRef":"1","volume":{"size":1},"databases":[{"name":"shop"}],"datastore":{"type":"mysql","version":"8.0.29"}}}`, 400, "Databases with names",
		},
	} {
		rec := w.ask(t, "member", c.method, c.path, c.body)
		if rec.Code != c.status || !strings.Contains(message(t, rec), c.text) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", c.method, c.path, c.body, rec.Code, rec.Body, c.status, c.text)
		}
	}
}
