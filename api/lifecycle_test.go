package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/store"
)

// denying refuses one rule.
type denying struct {
	api.Enforcer
	rule string
}

func (d denying) Enforce(rule string, c identity.Caller, target map[string]string) error {
	if rule == d.rule {
		return trove.Errorf(trove.KindForbidden, "Policy doesn't allow %s to be performed.", rule)
	}
	return d.Enforcer.Enforce(rule, c, target)
}

func (w *world) rebuild(t *testing.T) {
	t.Helper()
	var err error
	if w.handler, err = api.New(w.config); err != nil {
		t.Fatal(err)
	}
}

func (w *world) instance(t *testing.T, id string) trove.Instance {
	t.Helper()
	i, err := w.store.Instance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestActionsEnqueueAndShow(t *testing.T) {
	for name, c := range map[string]struct {
		body, kind, status string
		input              any
	}{
		"restart": {`{"restart":{}}`, trove.OpRestart, "REBOOT", nil},
		"stop":    {`{"stop":{}}`, trove.OpStop, "REBOOT", nil},
		"volume":  {`{"resize":{"volume":{"size":5}}}`, trove.OpResizeVolume, "RESIZE", trove.ResizeVolumeInput{Old: 3, New: 5}},
		"flavor": {`{"resize":{"flavorRef":"3"}}`, trove.OpResizeFlavor, "RESIZE", trove.ResizeFlavorInput{
			Old: trove.Flavor{ID: "2", Name: "m1.small", RAM: 2048, VCPUs: 1, Disk: 20},
			New: trove.Flavor{ID: "3", Name: "m1.medium", RAM: 4096, VCPUs: 2, Disk: 40},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			id := w.built(t)
			rec := w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", c.body, nil)
			row, open := w.openOperation(t, id)
			if !open || row.Kind != c.kind || row.ID != rec.Header().Get(wire.HeaderOperation) {
				t.Fatalf("the operation is %+v", row.Operation)
			}
			want, err := json.Marshal(c.input)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(row.Input)); diff != "" {
				t.Errorf("input:\n%s", diff)
			}
			var body wire.InstanceBody
			w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &body)
			if body.Instance.Status != c.status || body.Instance.OperatingStatus != "" {
				t.Errorf("status %s %q", body.Instance.Status, body.Instance.OperatingStatus)
			}
			again := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", c.body)
			if again.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, again), "task status was") {
				t.Errorf("a second one: %d %s", again.Code, again.Body)
			}
		})
	}
}

// A stopped instance is SHUTDOWN however long its guest is silent. It can be started, resized and deleted; what needs the database is refused with a
// sentence that says what to do.
func TestStoppedInstance(t *testing.T) {
	for name, c := range map[string]struct{ method, path, body, kind, refused string }{
		"start":   {http.MethodPost, "/action", `{"start":{}}`, trove.OpStart, ""},
		"volume":  {http.MethodPost, "/action", `{"resize":{"volume":{"size":5}}}`, trove.OpResizeVolume, ""},
		"flavor":  {http.MethodPost, "/action", `{"resize":{"flavorRef":"3"}}`, trove.OpResizeFlavor, ""},
		"access":  {http.MethodPut, "", `{"instance":{"access":{"allowed_cidrs":["192.0.2.0/24"]}}}`, trove.OpUpdateAccess, ""},
		"delete":  {http.MethodDelete, "", "", trove.OpDelete, ""},
		"stop":    {http.MethodPost, "/action", `{"stop":{}}`, "", "is stopped already"},
		"restart": {http.MethodPost, "/action", `{"restart":{}}`, "", "start it first"},
		"users":   {http.MethodGet, "/users", "", "", "start it first"},
		"root":    {http.MethodPost, "/root", "", "", "start it first"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			id := w.built(t)
			w.change(t, id, func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
			held := w.inUse(t)
			w.clock.Add(200 * 24 * time.Hour)
			var body wire.InstanceBody
			w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &body)
			if body.Instance.Status != "SHUTDOWN" || body.Instance.OperatingStatus != "SHUTDOWN" || body.Instance.Fault != nil {
				t.Errorf("status %s %q, fault %+v", body.Instance.Status, body.Instance.OperatingStatus, body.Instance.Fault)
			}
			rec := w.ask(t, "member", c.method, "/instances/"+id+c.path, c.body)
			if c.refused != "" {
				if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, rec), c.refused) {
					t.Errorf("%d %s", rec.Code, rec.Body)
				}
				if diff := cmp.Diff(held, w.inUse(t)); diff != "" {
					t.Errorf("quota:\n%s", diff)
				}
				return
			}
			if row, open := w.openOperation(t, id); rec.Code != http.StatusAccepted || !open || row.Kind != c.kind {
				t.Errorf("%d %s, operation %+v", rec.Code, rec.Body, row.Operation)
			}
		})
	}
}

// Stop and start have rules of their own.
func TestPolicyOfStopAndStart(t *testing.T) {
	for _, action := range []string{"stop", "start"} {
		w := newWorld(t, nil, nil)
		id := w.built(t)
		w.config.Policy = denying{w.config.Policy, "instance:" + action}
		w.rebuild(t)
		rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"`+action+`":{}}`)
		if rec.Code != http.StatusForbidden {
			t.Errorf("%s: %d %s", action, rec.Code, rec.Body)
		}
	}
}

// An instance that runs has nothing to be started.
func TestStartOfARunningInstance(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"start":{}}`)
	if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, rec), "is not stopped") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// What a resize needs is taken with it; what it does not get leaves everything as it was.
func TestResizeTakesQuota(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaRAM: 5000}, nil)
	id := w.built(t)
	rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"resize":{"volume":{"size":41}}}`)
	if rec.Code != http.StatusRequestEntityTooLarge || message(t, rec) != "Quota exceeded for resources: ['volumes']." {
		t.Errorf("volume: %d %s", rec.Code, rec.Body)
	}
	rec = w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"resize":{"flavorRef":"4"}}`)
	if rec.Code != http.StatusRequestEntityTooLarge || message(t, rec) != "Quota exceeded for resources: ['ram']." {
		t.Errorf("flavor: %d %s", rec.Code, rec.Body)
	}
	if i := w.instance(t, id); i.Task != trove.TaskNone || i.Held["volumes"] != 3 || i.Held["ram"] != 2048 {
		t.Errorf("changed: task %v, held %v", i.Task, i.Held)
	}
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"resize":{"volume":{"size":40}}}`, nil)
	if diff := cmp.Diff(map[string]int{"instances": 1, "ram": 2048, "volumes": 40}, w.inUse(t)); diff != "" {
		t.Errorf("in use:\n%s", diff)
	}
	if held := w.instance(t, id).Held["volumes"]; held != 40 {
		t.Errorf("the instance holds %d", held)
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, _ := w.create(t)
	rec := w.ask(t, "member", http.MethodDelete, "/instances/"+id, "")
	if rec.Code != http.StatusUnprocessableEntity || message(t, rec) != "Instance "+id+" is not ready. (Status is BUILD)." {
		t.Errorf("in BUILD: %d %s", rec.Code, rec.Body)
	}
	id = w.built(t)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	first, _ := w.openOperation(t, id)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	second, _ := w.openOperation(t, id)
	if first.Kind != trove.OpDelete || first.ID != second.ID || second.Cancelled {
		t.Errorf("asked twice: %+v then %+v", first.Operation, second.Operation)
	}
}

// A delete while something else runs cancels that; the mark on the instance makes the taskmanager remove it afterwards.
func TestDeleteCancelsWhatRuns(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"restart":{}}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	row, open := w.openOperation(t, id)
	if !open || row.Kind != trove.OpRestart || !row.Cancelled {
		t.Errorf("the restart is %+v", row.Operation)
	}
	if i := w.instance(t, id); i.Task != trove.TaskDeleting || i.Status(false) != "SHUTDOWN" {
		t.Errorf("task %v, status %s", i.Task, i.Status(false))
	}
}

func TestDeleteOfAReplicaSource(t *testing.T) {
	w := newWorld(t, nil, nil)
	source, replica := w.built(t), w.built(t)
	w.change(t, replica, func(i *trove.Instance) { i.ReplicaOf = source })
	rec := w.ask(t, "member", http.MethodDelete, "/instances/"+source, "")
	if rec.Code != http.StatusForbidden {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestResetStatus(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"restart":{}}`, nil)
	if rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`); rec.Code != http.StatusForbidden {
		t.Errorf("a member: %d %s", rec.Code, rec.Body)
	}
	w.must(t, http.StatusAccepted, "admin_other", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`, nil)
	i := w.instance(t, id)
	row, open := w.openOperation(t, id)
	if i.Task != trove.TaskNone || i.Guest.Service != trove.ServiceUnknown || !open || !row.Cancelled {
		t.Errorf("task %v, service %s, operation %+v", i.Task, i.Guest.Service, row.Operation)
	}
}

// A deletion cannot be reset: parts of the instance are gone.
func TestResetStatusOfADeletion(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`, nil)
	row, open := w.openOperation(t, id)
	if i := w.instance(t, id); i.Task != trove.TaskDeleting || !open || row.Cancelled {
		t.Errorf("task %v, operation %+v", i.Task, row.Operation)
	}
}

// TestTrap15AccessIsMerged: what an access update leaves out stays as it is; Horizon sends no is_public and would drop the address.
func TestTrap15AccessIsMerged(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.change(t, id, func(i *trove.Instance) { i.Access = trove.Access{IsPublic: true, AllowedCIDRs: []string{"10.0.0.0/8"}} })
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/instances/"+id,
		`{"instance":{"name":"new","access":{"allowed_cidrs":["192.0.2.0/24"]}}}`, nil)
	row, _ := w.openOperation(t, id)
	var in trove.UpdateAccessInput
	if err := json.Unmarshal(row.Input, &in); err != nil {
		t.Fatal(err)
	}
	want := trove.UpdateAccessInput{
		Old: trove.Access{IsPublic: true, AllowedCIDRs: []string{"10.0.0.0/8"}},
		New: trove.Access{IsPublic: true, AllowedCIDRs: []string{"192.0.2.0/24"}},
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Error(diff)
	}
	if i := w.instance(t, id); i.Name != "new" || i.Task != trove.TaskUpdating {
		t.Errorf("name %s, task %v", i.Name, i.Task)
	}
}

// The history of root says who enabled it; it is false again after DELETE.
func TestRootHistory(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	var root wire.RootBody
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances/"+id+"/root", "", &root)
	if len(root.User.Password) < 20 {
		t.Errorf("the password %q is short", root.User.Password)
	}
	h, err := w.store.RootHistory(t.Context(), id)
	if err != nil || h.UserID != "u-member" {
		t.Errorf("%+v %v", h, err)
	}
	var enabled wire.RootEnabled
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/root", "", &enabled)
	w.must(t, http.StatusNoContent, "member", http.MethodDelete, "/instances/"+id+"/root", "", nil)
	var disabled wire.RootEnabled
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/root", "", &disabled)
	if !enabled.RootEnabled || disabled.RootEnabled {
		t.Errorf("enabled %v, then %v", enabled.RootEnabled, disabled.RootEnabled)
	}
}

// A guest that does not answer is a 503 that says so, and the list of instances does not need it.
func TestSilentGuest(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.guests.down = true
	rec := w.ask(t, "member", http.MethodGet, "/instances/"+id+"/databases", "")
	if rec.Code != http.StatusServiceUnavailable || message(t, rec) != "The guest does not answer." {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", nil)
}

// A datastore version says what it can do.
func TestVersionWithoutDatabases(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		v, err := tx.DatastoreVersion(ctx, w.instance(t, id).DatastoreVersionID)
		if err != nil {
			return err
		}
		v.Capabilities.Databases = false
		return tx.PutDatastoreVersion(ctx, v)
	})
	w.clock.Add(1e10) // what is known of versions is old by now
	w.report(t, id, trove.ServiceHealthy, w.clock.Now())
	rec := w.ask(t, "member", http.MethodGet, "/instances/"+id+"/databases", "")
	if rec.Code != http.StatusNotImplemented {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
