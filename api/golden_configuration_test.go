package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// afterConfiguration are requests that meet the state which the one before them brought about.
var afterConfiguration = map[string]bool{
	"configurations/restart-required-show": true, "configurations/restart-required-list": true, "configurations/restart-required-detach": true,
	"configurations/detached-show": true, "configurations/attach-restart-show": true,
}

// configurationState makes what the recording made behind the API's back before a request on configuration groups.
func (g *golden) configurationState(r *record) {
	switch r.file + "/" + r.Name {
	case "configurations/detach": // Trove 18 detached nothing with an empty body, we do: go on from Trove's state
		g.change(g.t, g.bound["instance_a"], func(i *trove.Instance) { i.ConfigurationID = g.bound["configuration_c"] })
	case "configurations/put-name-only-show", "configurations/put-configuration-object": // and without values it lost them
		g.setValues(g.bound["configuration_c"], map[string]json.RawMessage{})
	case "configurations/list-page":
		g.pageOfGroups(r)
	}
}

func (g *golden) setValues(id string, values map[string]json.RawMessage) {
	c, err := g.store.Configuration(g.t.Context(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	c.Values = values
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error { return tx.UpdateConfiguration(ctx, c, g.clock.Now()) })
}

// pageOfGroups makes the 23 groups of the recording, with ids in the order that it lists them in.
func (g *golden) pageOfGroups(r *record) {
	var page struct{ Configurations []trove.Configuration }
	var list struct {
		Configurations []struct {
			Name        string
			Description *string
			Version     string `json:"datastore_version_id"`
		}
	}
	if err := json.Unmarshal([]byte(g.fill(string(r.Response.JSON))), &list); err != nil {
		g.t.Fatal(err)
	}
	for n, item := range list.Configurations {
		c := trove.Configuration{
			ID: fmt.Sprintf("c0000000-0000-4000-8000-%012d", n), ProjectID: project, Name: item.Name, DatastoreVersionID: item.Version,
			Created: g.clock.Now(), Updated: g.clock.Now(),
		}
		if item.Description != nil {
			c.Description = *item.Description
		}
		page.Configurations = append(page.Configurations, c)
	}
	for n := range 3 {
		c := page.Configurations[1]
		c.ID, c.Name = fmt.Sprintf("d0000000-0000-4000-8000-%012d", n), "golden-page-more"
		page.Configurations = append(page.Configurations, c)
	}
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
		for _, id := range []string{g.bound["configuration"], g.bound["configuration_b"]} {
			if err := tx.DeleteConfiguration(ctx, id); err != nil {
				return err
			}
		}
		for _, c := range page.Configurations {
			if err := tx.InsertConfiguration(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// rememberConfiguration takes ids that later requests name, and removes groups that the recording removed behind the API's back.
func (g *golden) rememberConfiguration(r *record, rec *httptest.ResponseRecorder) {
	if r.Request.Method != http.MethodPost || rec.Code >= 300 {
		return
	}
	switch r.file {
	case "configurations":
		var body struct {
			Configuration struct{ ID, Name string }
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
			g.t.Fatal(err)
		}
		if name, ok := map[string]string{
			"create": "configuration", "create-no-datastore": "configuration_b", "create-same-name": "configuration_c",
		}[r.Name]; ok {
			g.bound[name] = g.orderedGroup(body.Configuration.ID, name)
			return
		}
		inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
			return tx.DeleteConfiguration(ctx, body.Configuration.ID)
		})
	case "mgmt-datastore-versions":
		g.rememberVersions()
	}
}

// orderedGroup gives a group an id in the order of the recording's.
func (g *golden) orderedGroup(id, name string) string {
	c, err := g.store.Configuration(g.t.Context(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	c.ID = map[string]string{"configuration": "1", "configuration_b": "2", "configuration_c": "3"}[name] + id[1:]
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
		if err := tx.DeleteConfiguration(ctx, id); err != nil {
			return err
		}
		return tx.InsertConfiguration(ctx, c)
	})
	return c.ID
}

// rememberVersions binds the versions that were made, and removes those that the recording did not keep.
func (g *golden) rememberVersions() {
	all, err := g.store.DatastoreVersions(g.t.Context(), "")
	if err != nil {
		g.t.Fatal(err)
	}
	for _, v := range all {
		switch {
		case v.Name == "golden-9":
			g.bound["version_new"] = v.ID
		case strings.HasPrefix(v.Name, "golden-tmp"):
			inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error { return tx.DeleteDatastoreVersion(ctx, v.ID) })
		}
	}
}
