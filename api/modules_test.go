package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// pingContents is the base64 of "message=s3cret".
const (
	pingContents = "bWVzc2FnZT1zM2NyZXQ="
	pingModule   = `{"module":{"name":"m","module_type":"PING","contents":"` + pingContents + `"}}`
)

func (w *world) module(t *testing.T, token, fields string) wire.Module {
	t.Helper()
	var out wire.ModuleBody
	w.must(t, http.StatusOK, token, http.MethodPost, "/modules", `{"module":{"module_type":"ping","contents":"`+pingContents+`",`+fields+`}}`, &out)
	return out.Module
}

// Trap 1: a module is created with 200, and so are changed and deleted ones.
func TestTrap1SuccessCodesOfModules(t *testing.T) {
	w := newWorld(t, nil, nil)
	m := w.module(t, "member", `"name":"m"`)
	w.must(t, http.StatusOK, "member", http.MethodPut, "/modules/"+m.ID, `{"module":{"description":"d"}}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/modules/"+m.ID+"/instances", `{"reapply":{}}`, nil)
	w.must(t, http.StatusOK, "member", http.MethodDelete, "/modules/"+m.ID, "", nil)
}

// TestContentsOfModulesStaySealed: they are in no answer but the one that asks for them, and the store has them sealed for the module.
func TestContentsOfModulesStaySealed(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	m := w.module(t, "member", `"name":"m"`)
	row, err := w.store.Module(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := (fakeSealer{}).Open(t.Context(), trove.ModulePurpose(m.ID), row.Contents); err != nil || plain.Reveal() != pingContents {
		t.Errorf("sealed: %v", err)
	}
	if m.MD5 != "c8939feab6ea737c0bb2229390abdcfb" {
		t.Errorf("the sum of what was sent is %s", m.MD5)
	}
	w.link(t, id, m.ID, m.MD5)
	for _, path := range []string{"/modules", "/modules/" + m.ID, "/instances/" + id + "/modules", "/modules/" + m.ID + "/instances"} {
		if rec := w.must(t, http.StatusOK, "admin", http.MethodGet, path, "", nil); strings.Contains(rec.Body.String(), pingContents) {
			t.Errorf("%s shows the contents: %s", path, rec.Body)
		}
	}
	var list wire.ModuleList
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/modules?include_contents=1", "", &list)
	if len(list.Modules) != 1 || list.Modules[0].Contents == nil || *list.Modules[0].Contents != pingContents {
		t.Errorf("%+v", list.Modules)
	}
	// Those of an administrator's module are not for the project.
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateModule(ctx, m.ID, w.clock.Now(), func(m *trove.Module) error { m.IsAdmin = true; return nil })
	})
	list = wire.ModuleList{}
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/modules?include_contents=1", "", &list)
	if len(list.Modules) != 1 || list.Modules[0].Contents != nil {
		t.Errorf("%+v", list.Modules)
	}
}

// link says that an instance has a module, as an import does.
func (w *world) link(t testing.TB, instance, module, sum string) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.PutInstanceModule(ctx, trove.InstanceModule{InstanceID: instance, ModuleID: module, MD5: sum, Created: w.clock.Now(), Updated: w.clock.Now()})
	})
}

// TestOptionsOfAdministrators: what reaches beyond the project is for administrators, at every change.
func TestOptionsOfAdministrators(t *testing.T) {
	w := newWorld(t, nil, nil)
	mine := w.module(t, "member", `"name":"m"`)
	for option, text := range map[string]string{
		`"all_tenants":1`: "Tenant: all", `"auto_apply":1`: "Auto: 1", `"visible":0`: "Visible: 0", `"priority_apply":1`: "Priority: 1",
		`"full_access":0`: "Full Access: 0", `"priority_apply":1,"auto_apply":1`: "Auto: 1, Priority: 1",
	} {
		body := `{"module":{"name":"n","module_type":"ping","contents":"YQ==",` + option + `}}`
		if got := w.refused(t, 403, "member", http.MethodPost, "/modules", body); got != "You must be admin to create a module with these options. ("+text+")" {
			t.Error(got)
		}
		if got := w.refused(t, 403, "member", http.MethodPut, "/modules/"+mine.ID, `{"module":{`+option+`}}`); got != "You must be admin to update a module with these options. ("+text+")" {
			t.Error(got)
		}
	}
	if got := w.refused(t, 400, "admin", http.MethodPost, "/modules", `{"module":{"name":"n","module_type":"ping","contents":"YQ==","full_access":1,"visible":0}}`); got != "The following values are invalid: Cannot make module full access: (Visible: 0)." {
		t.Error(got)
	}
	common := w.module(t, "admin", `"name":"common","all_tenants":1`)
	hidden := w.module(t, "admin", `"name":"hidden","visible":0`)
	open := w.module(t, "admin", `"name":"open","full_access":1`)
	if common.Tenant != "all" || common.TenantID != "" || !common.IsAdmin || open.IsAdmin || hidden.Visible {
		t.Errorf("%+v %+v %+v", common, open, hidden)
	}
	w.must(t, http.StatusOK, "other", http.MethodGet, "/modules/"+common.ID, "", nil)
	w.refused(t, 404, "member", http.MethodGet, "/modules/"+hidden.ID, "")
	if got := w.refused(t, 403, "other", http.MethodDelete, "/modules/"+common.ID, ""); got != "You must be admin to delete a module with these options. (Tenant: all)" {
		t.Error(got)
	}
	if got := w.refused(t, 403, "other", http.MethodPut, "/modules/"+common.ID, `{"module":{"name":"x"}}`); got != "You must be admin to update a module with these options. (Module is an admin module)" {
		t.Error(got)
	}
	w.must(t, http.StatusOK, "member", http.MethodPut, "/modules/"+open.ID, `{"module":{"name":"x"}}`, nil)
	for token, want := range map[string]int{"member": 3, "other": 1, "admin_other": 4} {
		var list wire.ModuleList
		w.must(t, http.StatusOK, token, http.MethodGet, "/modules", "", &list)
		if len(list.Modules) != want {
			t.Errorf("%s sees %d modules, want %d", token, len(list.Modules), want)
		}
	}
}

func TestModuleForADatastore(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t) // mysql 5.7.29, see activate
	m := w.module(t, "member", `"name":"m","datastore":{"type":"mariadb","version":"10.4.18"}`)
	if m.Datastore != "mariadb" || m.DatastoreVersion != "10.4.18" {
		t.Errorf("%+v", m)
	}
	apply := `{"modules":[{"id":"` + m.ID + `"}]}`
	if got := w.refused(t, 400, "member", http.MethodPost, "/instances/"+id+"/modules", apply); !strings.Contains(got, "Wrong datastore") {
		t.Error(got)
	}
	put := func(body string) wire.Module {
		t.Helper()
		var out wire.ModuleBody
		w.must(t, http.StatusOK, "member", http.MethodPut, "/modules/"+m.ID, `{"module":`+body+`}`, &out)
		return out.Module
	}
	if v := put(`{"datastore":{"version":"10.11.6"}}`); v.Datastore != "mariadb" || v.DatastoreVersion != "10.11.6" {
		t.Errorf("%+v", v)
	}
	if v := put(`{"datastore":{"type":"mysql"}}`); v.Datastore != "mysql" || v.DatastoreVersion != "all" {
		t.Errorf("%+v", v)
	}
	if got := w.refused(t, 501, "member", http.MethodPost, "/instances/"+id+"/modules", apply); !strings.HasPrefix(got, "Modules cannot be applied") {
		t.Error(got)
	}
	if v := put(`{"all_datastores":1,"all_datastore_versions":1}`); v.Datastore != "all" || v.DatastoreVersion != "all" {
		t.Errorf("%+v", v)
	}
	w.refused(t, 400, "member", http.MethodPut, "/modules/"+m.ID, `{"module":{"datastore":{"version":"10.11.6"}}}`)
	w.refused(t, 400, "member", http.MethodPut, "/modules/"+m.ID, `{"module":{"all_datastores":1,"datastore":{"type":"mysql"}}}`)
	// The same name is free for another datastore, and only there.
	w.module(t, "member", `"name":"m","datastore":{"type":"mysql"}`)
	if got := w.refused(t, 400, "member", http.MethodPut, "/modules/"+m.ID, `{"module":{"datastore":{"type":"mysql"}}}`); !strings.HasPrefix(got, "A module with the name 'm' already exists") {
		t.Error(got)
	}
	var list wire.ModuleList
	for query, want := range map[string]int{"?datastore=mysql": 1, "?datastore=all": 1, "?datastore=mariadb": 0} {
		w.must(t, http.StatusOK, "member", http.MethodGet, "/modules"+query, "", &list)
		if len(list.Modules) != want {
			t.Errorf("%s: %+v", query, list.Modules)
		}
	}
}

// TestAModuleThatInstancesHave may not change or go, unless it is marked; it is applied and removed nowhere yet.
func TestAModuleThatInstancesHave(t *testing.T) {
	w := newWorld(t, nil, nil)
	a, b := w.built(t), w.built(t)
	m := w.module(t, "member", `"name":"m"`)
	w.link(t, a, m.ID, m.MD5)
	w.link(t, b, m.ID, strings.Repeat("0", 32))
	path := "/modules/" + m.ID
	for method, body := range map[string]string{http.MethodPut: `{"module":{"contents":"Yg=="}}`, http.MethodDelete: ""} {
		if got := w.refused(t, 403, "member", method, path, body); !strings.HasPrefix(got, "A module cannot be deleted or its contents modified") {
			t.Error(got)
		}
	}
	var one wire.ModuleBody
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &one)
	if one.Module.InstanceCount == nil || *one.Module.InstanceCount != 2 {
		t.Errorf("%+v", one.Module)
	}
	var list wire.InstanceList
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"/instances?limit=1", "", &list)
	if len(list.Instances) != 1 || len(list.Links) != 1 {
		t.Errorf("%+v", list)
	}
	var counts wire.ModuleCounts
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"/instances?count_only=true", "", &counts)
	if len(counts.Instances) != 2 || counts.Instances[0].Current || !counts.Instances[1].Current || counts.Instances[1].InstanceCount != 1 {
		t.Errorf("%+v", counts)
	}
	for method, path := range map[string]string{
		http.MethodPut: path + "/instances", http.MethodDelete: "/instances/" + a + "/modules/" + m.ID,
	} {
		body := ""
		if method == http.MethodPut {
			body = `{"reapply":{"force":1}}`
		}
		if got := w.refused(t, 501, "member", method, path, body); !strings.HasPrefix(got, "Modules cannot be applied") {
			t.Error(got)
		}
	}
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateModule(ctx, m.ID, w.clock.Now(), func(m *trove.Module) error { m.LiveUpdate = true; return nil })
	})
	w.must(t, http.StatusOK, "member", http.MethodPut, path, `{"module":{"contents":"Yg=="}}`, &one)
	if one.Module.MD5 == m.MD5 {
		t.Error("the sum stayed the same")
	}
}

// TestCreateWithModulesIsRefused, after everything that could be wrong with them.
func TestCreateWithModulesIsRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	good := w.module(t, "member", `"name":"m"`)
	wrong := w.module(t, "member", `"name":"m","datastore":{"type":"mariadb"}`)
	for id, status := range map[string]int{absentID: 404, wrong.ID: 400, good.ID: 501} {
		w.refused(t, status, "member", http.MethodPost, "/instances", `{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"modules":[{"id":"`+id+`"}]}}`)
	}
	if n := w.inUse(t)[trove.QuotaInstances]; n > 0 {
		t.Errorf("%d instances are in use", n)
	}
}
