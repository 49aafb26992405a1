package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// newGroup makes a configuration group for the fixture's instance and returns its id.
func (w *world) newGroup(t testing.TB, values string) string {
	t.Helper()
	var body wire.ConfigurationGroupBody
	w.must(t, http.StatusOK, "member", http.MethodPost, "/configurations",
		`{"configuration":{"name":"big","values":`+values+`,"datastore":{"type":"mysql","version":"5.7.29"}}}`, &body)
	return body.Configuration.ID
}

func (w *world) attach(t testing.TB, status int, instance, group string) string {
	t.Helper()
	value := "null"
	if group != "" {
		value = `"` + group + `"`
	}
	rec := w.must(t, status, "member", http.MethodPut, "/instances/"+instance, `{"instance":{"configuration":`+value+`}}`, nil)
	if status >= 400 {
		return message(t, rec)
	}
	return ""
}

// wantApplied compares what the guest was told last.
func (w *world) wantApplied(t testing.TB, instance, want string) {
	t.Helper()
	got, err := json.Marshal(w.guests.applied[instance].Overrides)
	if err != nil || string(got) != want {
		t.Errorf("the guest of %s has %s, %v, want %s", instance, got, err, want)
	}
}

func (w *world) group(t testing.TB, id string) wire.ConfigurationGroup {
	t.Helper()
	var body wire.ConfigurationGroupBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/configurations/"+id, "", &body)
	return body.Configuration
}

// late returns whether the taskmanager has something to tell the guest.
func (w *world) late(t testing.TB, id string) bool {
	t.Helper()
	c, err := w.store.InstanceConfiguration(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c.Applied != c.Revision
}

// addInstance makes another instance of the fixture's kind that is up.
func (w *world) addInstance(t testing.TB, id string) {
	t.Helper()
	now := w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.InsertInstance(ctx, trove.Instance{ID: id, ProjectID: project, Name: "more", Created: now, Updated: now, FlavorID: "2", VolumeSize: 1})
	})
	w.activate(t, id)
	w.report(t, id, trove.ServiceHealthy, now)
}

const moreID = "10000000-0000-4000-8000-000000000002"

// TestTrap1ExactSuccessCodesOfConfigurations: gophercloud takes 200 alone for a create, tempest asserts 200 and no body for PATCH.
func TestTrap1ExactSuccessCodesOfConfigurations(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{"connect_timeout":17}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		empty              bool
	}{
		{http.MethodGet, "/configurations", "", 200, false},
		{http.MethodGet, "/configurations/" + id, "", 200, false},
		{http.MethodGet, "/configurations/" + id + "/instances", "", 200, false},
		{http.MethodPatch, "/configurations/" + id, `{"configuration":{"values":{"wait_timeout":60}}}`, 200, true},
		{http.MethodPut, "/configurations/" + id, `{"configuration":{"name":"n"}}`, 202, true},
		{http.MethodDelete, "/configurations/" + id, "", 202, true},
		{http.MethodPut, "/instances/" + labID, `{"instance":{"configuration":null}}`, 202, true},
		{http.MethodGet, "/instances/" + labID + "/configuration", "", 200, false},
	} {
		rec := w.must(t, c.status, "member", c.method, c.path, c.body, nil)
		if c.empty != (rec.Body.Len() == 0) || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %q, %v", c.method, c.path, rec.Body, rec.Header())
		}
	}
	rec := w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/mgmt/datastore-versions",
		`{"version":{"name":"9","datastore_name":"mysql","datastore_manager":"mysql","image":"`+imageID+`","active":true}}`, nil)
	if rec.Body.Len() != 0 {
		t.Errorf("POST /mgmt/datastore-versions has the body %s: python-troveclient dies of it", rec.Body)
	}
	path := "/mgmt/datastores/versions/" + versionID("mysql", "5.7.29") + "/parameters/connect_timeout"
	w.must(t, http.StatusNoContent, "admin", http.MethodDelete, path, "", nil)
}

// TestTrap4ChangesOfConfigurationAreSynchronous: the guest has them when the answer comes.
func TestTrap4ChangesOfConfigurationAreSynchronous(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{"Connect_Timeout":17,"long_query_time":2.5}`)
	if g := w.group(t, id); *g.InstanceCount != 0 {
		t.Errorf("a new group has %d instances", *g.InstanceCount)
	}
	w.attach(t, http.StatusAccepted, labID, id)
	w.wantApplied(t, labID, `{"connect_timeout":17,"long_query_time":2.5}`)
	w.must(t, http.StatusOK, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"CONNECT_TIMEOUT":18,"wait_timeout":9}}}`, nil)
	w.wantApplied(t, labID, `{"connect_timeout":18,"long_query_time":2.5,"wait_timeout":9}`)
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":8}}}`, nil)
	w.wantApplied(t, labID, `{"wait_timeout":8}`)
	if g := w.group(t, id); *g.InstanceCount != 1 || fmt.Sprint(*g.Values) != "map[wait_timeout:8]" {
		t.Errorf("the group is %+v", g)
	}
	w.attach(t, http.StatusAccepted, labID, "")
	w.wantApplied(t, labID, `{}`)
	if w.late(t, labID) || w.instance(t, labID).ConfigurationID != "" || w.instance(t, labID).Task != trove.TaskNone {
		t.Errorf("after the detach the instance is %+v", w.instance(t, labID))
	}
	asked := w.guests.asked[labID]
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/configurations/"+id, `{"configuration":{"name":"renamed"}}`, nil)
	w.attach(t, http.StatusAccepted, labID, "")
	if w.guests.asked[labID] != asked {
		t.Error("a guest was told something by a new name, or by a detach of nothing")
	}
}

// TestTrap8AnInstanceWithoutAGroupHasNoKeyForIt: "configuration": null hides Horizon's action to attach one.
func TestTrap8AnInstanceWithoutAGroupHasNoKeyForIt(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{}`)
	show := func() string {
		return w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+labID, "", nil).Body.String()
	}
	if body := show(); strings.Contains(body, `"configuration"`) {
		t.Errorf("without a group: %s", body)
	}
	w.attach(t, http.StatusAccepted, labID, id)
	if body := show(); !strings.Contains(body, `"configuration":{"id":"`+id+`","name":"big","links":[{`) {
		t.Errorf("with a group: %s", body)
	}
	if body := w.must(t, http.StatusOK, "member", http.MethodGet, "/configurations/"+id, "", nil).Body.String(); !strings.Contains(body, `"description":null`) {
		t.Errorf("a group without a description: %s", body)
	}
}

// TestTrap9AnEmptyUpdateDetaches: gophercloud and terraform detach with {"instance": {}}, and attach the next group right after it.
func TestTrap9AnEmptyUpdateDetaches(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	first, second := w.newGroup(t, `{"performance_schema":true}`), w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, first)
	if status := w.instance(t, labID); status.Task != trove.TaskRestartRequired {
		t.Errorf("the task is %v, want one that says that a restart is required", status.Task)
	}
	if text := w.attach(t, http.StatusBadRequest, labID, second); !strings.Contains(text, "already has a Configuration Group attached") {
		t.Error(text)
	}
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/instances/"+labID, `{"instance":{}}`, nil)
	w.attach(t, http.StatusAccepted, labID, second)
	w.wantApplied(t, labID, `{"wait_timeout":9}`)
	w.must(t, http.StatusAccepted, "member", http.MethodPatch, "/instances/"+labID, `{"instance":{}}`, nil) // PATCH changes what it names
	if w.instance(t, labID).ConfigurationID != second {
		t.Error("an empty PATCH has detached the group")
	}
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/instances/"+labID, `{"instance":{"name":"only"}}`, nil)
	if i := w.instance(t, labID); i.ConfigurationID != second || i.Name != "only" {
		t.Errorf("after a rename: %+v", i)
	}
}

// TestTrap17AdministratorsListTheGroupsOfAllProjects and see what others do not.
func TestTrap17AdministratorsListTheGroupsOfAllProjects(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.newGroup(t, `{}`)
	for token, want := range map[string]int{"member": 1, "admin": 1, "admin_other": 1, "other": 0} {
		var list wire.ConfigurationGroupList
		w.must(t, http.StatusOK, token, http.MethodGet, "/configurations", "", &list)
		if len(list.Configurations) != want {
			t.Errorf("%s lists %d groups, want %d", token, len(list.Configurations), want)
		}
	}
	w.must(t, http.StatusOK, "admin_other", http.MethodGet, "/configurations/"+id, "", nil)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if text := message(t, w.must(t, http.StatusNotFound, "other", method, "/configurations/"+id, "", nil)); !strings.Contains(text, id) {
			t.Error(text)
		}
	}
}

func TestValueThatADatabaseRefusesChangesNothing(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	w.addInstance(t, moreID)
	id := w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, id)
	w.attach(t, http.StatusAccepted, moreID, id)
	w.guests.refuse[moreID] = trove.Errorf(trove.KindBadRequest, "The database refuses the value of the parameter sql_mode: no.")
	rec := w.must(t, http.StatusBadRequest, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":10}}}`, nil)
	if text := message(t, rec); text != "The database refuses the value of the parameter sql_mode: no." {
		t.Error(text)
	}
	if g := w.group(t, id); fmt.Sprint(*g.Values) != "map[wait_timeout:9]" {
		t.Errorf("the group has %v", *g.Values)
	}
	w.wantApplied(t, labID, `{"wait_timeout":9}`) // told the old one again
	if w.late(t, labID) || !w.late(t, moreID) {
		t.Errorf("to be told: %t, %t; want only the one that refuses", w.late(t, labID), w.late(t, moreID))
	}
	delete(w.guests.refuse, moreID)
	w.attach(t, http.StatusAccepted, moreID, "")
	w.guests.refuse[moreID] = trove.Errorf(trove.KindBadRequest, "no")
	w.attach(t, http.StatusBadRequest, moreID, id)
	if w.instance(t, moreID).ConfigurationID != "" {
		t.Error("a group was attached that the database refuses")
	}
}

func TestGuestThatIsAwayIsToldLater(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, id)
	w.guests.refuse[labID] = trove.Errorf(trove.KindUnavailable, "The guest does not answer.")
	w.must(t, http.StatusOK, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":10}}}`, nil)
	ids, err := w.store.LateConfigurations(t.Context(), w.clock.Now(), 10)
	if err != nil || len(ids) != 1 || ids[0] != labID {
		t.Errorf("to be told by the taskmanager: %v, %v", ids, err)
	}
	if text := w.attach(t, http.StatusServiceUnavailable, labID, ""); text != "The guest does not answer." {
		t.Error(text)
	}
	if w.instance(t, labID).ConfigurationID != id {
		t.Error("a group was detached behind the guest's back")
	}
}

func TestStoppedInstanceGetsItsGroupAtItsStart(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	w.change(t, labID, func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	id := w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, id)
	w.must(t, http.StatusOK, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":10}}}`, nil)
	if w.guests.asked[labID] != 0 || w.instance(t, labID).ConfigurationID != id {
		t.Errorf("the guest was asked %d times; the instance is %+v", w.guests.asked[labID], w.instance(t, labID))
	}
}

func TestInstancesAtWorkKeepTheirConfiguration(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, id)
	w.change(t, labID, func(i *trove.Instance) { i.Task = trove.TaskResizing })
	if text := w.attach(t, http.StatusBadRequest, labID, ""); text != "The operation you have requested cannot be executed because the instance status is currently: RESIZING." {
		t.Error(text)
	}
	w.must(t, http.StatusOK, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":10}}}`, nil)
	w.wantApplied(t, labID, `{"wait_timeout":9}`)
	if !w.late(t, labID) {
		t.Error("nobody tells the guest when the operation has ended")
	}
	w.change(t, labID, func(i *trove.Instance) { i.Task = trove.TaskBuilding })
	if text := w.attach(t, http.StatusUnprocessableEntity, labID, ""); text != "Instance "+labID+" is not ready." {
		t.Error(text)
	}
}

// TestChangesOfAGroupAtTheSameTimeAreAllKept lets another change through while the guest is being told.
func TestChangesOfAGroupAtTheSameTimeAreAllKept(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	id := w.newGroup(t, `{"wait_timeout":9}`)
	w.attach(t, http.StatusAccepted, labID, id)
	w.guests.meanwhile = func() { w.changeBehind(t, id, "connect_timeout", "5") }
	w.must(t, http.StatusOK, "member", http.MethodPatch, "/configurations/"+id, `{"configuration":{"values":{"wait_timeout":10}}}`, nil)
	w.wantApplied(t, labID, `{"connect_timeout":5,"wait_timeout":10}`)
	if w.late(t, labID) {
		t.Error("the guest is to be told again")
	}
	w.attach(t, http.StatusAccepted, labID, "")
	w.guests.meanwhile = func() { w.changeBehind(t, id, "connect_timeout", "6") }
	w.attach(t, http.StatusAccepted, labID, id)
	w.wantApplied(t, labID, `{"connect_timeout":6,"wait_timeout":10}`)
}

func (w *world) changeBehind(t testing.TB, id, name, value string) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		c, err := tx.Configuration(ctx, id)
		if err != nil {
			return err
		}
		c.Values[name] = json.RawMessage(value)
		return tx.UpdateConfiguration(ctx, c, w.clock.Now())
	})
}

func TestCreateWithAConfiguration(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.newGroup(t, `{"wait_timeout":9}`)
	create := func(status int, token, version, ref string) (string, string) {
		t.Helper()
		body := `{"instance":{"name":"db","flavorRef":2,"volume":{"size":1},"datastore":{"type":"mysql","version":"` + version + `"},"configuration":"` + ref + `"}}`
		var out wire.InstanceBody
		rec := w.must(t, status, token, http.MethodPost, "/instances", body, nil)
		if status >= 400 {
			return "", message(t, rec)
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if out.Instance.Configuration == nil || out.Instance.Configuration.Name != "big" {
			t.Errorf("the answer is %s", rec.Body)
		}
		return out.Instance.ID, ""
	}
	i, _ := create(http.StatusOK, "member", "5.7.29", "https://x/v1.0/p/configurations/"+id)
	if w.instance(t, i).ConfigurationID != id {
		t.Error("the instance does not have the group")
	}
	if _, text := create(http.StatusBadRequest, "member", "8.0.29", id); !strings.HasPrefix(text, "Datastore Version on Configuration ") {
		t.Error(text)
	}
	for token, ref := range map[string]string{"member": absentID, "other": id} {
		if _, text := create(http.StatusNotFound, token, "5.7.29", ref); text != "Configuration group id: "+ref+" could not be found." {
			t.Error(text)
		}
	}
	w.must(t, http.StatusBadRequest, "member", http.MethodDelete, "/configurations/"+id, "", nil)
	w.activate(t, i)
	w.finish(t, i)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+i, "", nil)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/configurations/"+id, "", nil) // at once: terraform does not wait
}

func TestManagementIsForAdministrators(t *testing.T) {
	w := newWorld(t, nil, nil)
	path := "/mgmt/datastores/versions/" + versionID("mysql", "5.7.29") + "/parameters"
	for _, c := range []struct{ method, path, body string }{
		{http.MethodGet, "/mgmt/datastore-versions", ""},
		{http.MethodDelete, "/mgmt/datastore-versions/" + versionID("mysql", "8.0.29"), ""},
		{http.MethodPatch, "/mgmt/datastore-versions/" + versionID("mysql", "8.0.29"), `{"active":false}`},
		{http.MethodPost, "/mgmt/datastore-versions", `{"version":{"name":"n","datastore_name":"d","datastore_manager":"m","active":true}}`},
		{http.MethodGet, path, ""},
		{http.MethodPost, path, `{"configuration-parameter":{"name":"x","restart_required":0,"data_type":"string"}}`},
		{http.MethodPut, path + "/x", `{"configuration-parameter":{"name":"x","restart_required":0,"data_type":"string"}}`},
		{http.MethodDelete, path + "/connect_timeout", ""},
	} {
		if text := message(t, w.must(t, http.StatusUnauthorized, "member", c.method, c.path, c.body, nil)); text != "User does not have admin privileges." {
			t.Errorf("%s %s: %s", c.method, c.path, text)
		}
	}
}

// TestNewVersionHasTheRulesOfItsDriver, and what an administrator removes is gone for tenants.
func TestNewVersionHasTheRulesOfItsDriver(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) {
		e := c.Engines["mariadb"]
		e.Parameters = func(version string) []trove.Parameter {
			if version != "11" {
				t.Errorf("rules for version %q were asked for, want 11", version)
			}
			return []trove.Parameter{{Name: "a", Type: trove.ParameterInteger, Min: "0", Max: "18446744073709551615"}, {Name: "b", Type: trove.ParameterBoolean}}
		}
		c.Engines["mariadb"] = e
	})
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/mgmt/datastore-versions",
		`{"version":{"name":"11","datastore_name":"mariadb","datastore_manager":"mariadb","image":"`+imageID+`","active":true,"default":true}}`, nil)
	var v wire.DatastoreVersionBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/datastores/mariadb/versions/11", "", &v)
	const path = "/datastores/mariadb/versions/11/parameters"
	body := w.must(t, http.StatusOK, "member", http.MethodGet, path+"/A", "", nil).Body.String()
	want := `{"name":"a","datastore_version_id":"` + v.Version.ID + `","restart_required":false,"type":"integer","max":18446744073709551615,"min":0}`
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	mgmt := "/mgmt/datastores/versions/" + v.Version.ID + "/parameters"
	w.must(t, http.StatusNoContent, "admin", http.MethodDelete, mgmt+"/a", "", nil)
	w.must(t, http.StatusNotFound, "member", http.MethodGet, path+"/a", "", nil)
	w.must(t, http.StatusOK, "admin", http.MethodPost, mgmt,
		`{"configuration-parameter":{"name":"A","restart_required":1,"data_type":"integer","min_size":"1","max_size":"2"}}`, nil)
	w.must(t, http.StatusUnprocessableEntity, "member", http.MethodPost, "/configurations", `{"configuration":{"name":"n","values":{"a":3},"datastore":{"type":"mariadb"}}}`, nil)
	w.must(t, http.StatusOK, "member", http.MethodPost, "/configurations", `{"configuration":{"name":"n","values":{"a":2},"datastore":{"type":"mariadb"}}}`, nil)
	if text := message(t, w.must(t, http.StatusBadRequest, "admin", http.MethodDelete, "/mgmt/datastore-versions/"+v.Version.ID, "", nil)); text != "Datastore version is in use by configuration." {
		t.Error(text)
	}
}

func TestVersionWithoutRulesHasNoGroups(t *testing.T) {
	w := newWorld(t, nil, nil)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.ReplaceParameters(ctx, versionID("mysql", "8.0.29"), nil)
	})
	rec := w.must(t, http.StatusUnprocessableEntity, "member", http.MethodPost, "/configurations", `{"configuration":{"name":"n","values":{}}}`, nil)
	if text := message(t, rec); text != "Configuration groups are not supported for this datastore: mysql 8.0.29" {
		t.Error(text)
	}
}

func TestSecretsOfGroupsAreNotShown(t *testing.T) {
	w := newWorld(t, nil, nil)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.PutParameter(ctx, versionID("mysql", "5.7.29"), trove.Parameter{Name: "report_password", Type: trove.ParameterString})
	})
	id := w.newGroup(t, `{"report_password":"s3cret","wait_timeout":9}`)
	for _, path := range []string{"/configurations", "/configurations/" + id} {
		if body := w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.String(); strings.Contains(body, "s3cret") {
			t.Errorf("GET %s: %s", path, body)
		}
	}
	// Horizon sends back what it was shown.
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/configurations/"+id, `{"configuration":{"values":{"report_password":"***","wait_timeout":10}}}`, nil)
	g, err := w.store.Configuration(t.Context(), id)
	if err != nil || string(g.Values["report_password"]) != `"s3cret"` || string(g.Values["wait_timeout"]) != "10" {
		t.Errorf("the group has %s, %v", g.Values, err)
	}
}
