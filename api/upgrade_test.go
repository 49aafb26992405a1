package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

// old makes an instance of the older version.
func (w *world) old(t *testing.T) string {
	t.Helper()
	id := w.built(t)
	w.change(t, id, func(i *trove.Instance) { i.DatastoreVersionID = versionID("mysql", "5.7.29") })
	return id
}

// keep notes that the last upgrade of an instance has kept data.
func (w *world) keep(t *testing.T, id string) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.PutKeptData(ctx, trove.KeptData{InstanceID: id, DatastoreVersionID: versionID("mysql", "5.7.29"), ImageID: imageID, Since: w.clock.Now(), Bytes: 5})
	})
}

func TestPutAndPatchWithAnotherVersionBeginAnUpgrade(t *testing.T) {
	for _, method := range []string{http.MethodPut, http.MethodPatch} {
		for _, ref := range []string{"8.0.29", versionID("mysql", "8.0.29")} {
			w := newWorld(t, nil, nil)
			id := w.old(t)
			rec := w.must(t, http.StatusAccepted, "member", method, "/instances/"+id, `{"instance":{"datastore_version":"`+ref+`"}}`, nil)
			row, open := w.openOperation(t, id)
			if !open || row.Kind != trove.OpUpgrade || row.ID != rec.Header().Get(wire.HeaderOperation) {
				t.Fatalf("the operation is %+v", row.Operation)
			}
			want, err := json.Marshal(trove.UpgradeInput{Old: versionID("mysql", "5.7.29"), New: versionID("mysql", "8.0.29")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(row.Input)); diff != "" {
				t.Errorf("input:\n%s", diff)
			}
			var body wire.InstanceBody
			w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &body)
			i := body.Instance
			if i.Status != "UPGRADE" || i.OperatingStatus != "" || *i.Datastore.Version != "5.7.29" {
				t.Errorf("status %s, operating status %q, version %s: the version is the old one until all is done", i.Status, i.OperatingStatus, *i.Datastore.Version)
			}
			for _, call := range []struct{ method, path, body string }{
				{http.MethodPut, "/instances/" + id, `{"instance":{"datastore_version":"8.0.29"}}`},
				{http.MethodPost, "/instances/" + id + "/action", `{"restart":{}}`},
				{http.MethodPost, "/instances/" + id + "/action", `{"upgrade_confirm":{}}`},
			} {
				if rec := w.ask(t, "member", call.method, call.path, call.body); rec.Code != http.StatusUnprocessableEntity {
					t.Errorf("%s meanwhile: %d %s", call.body, rec.Code, rec.Body)
				}
			}
		}
	}
}

func TestUpgradesThatAreRefusedChangeNothing(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world, id string)
		ref     string
		status  int
		message string
	}{
		"older": {func(w *world, id string) {
			w.change(t, id, func(i *trove.Instance) { i.DatastoreVersionID = versionID("mysql", "8.0.29") })
		}, "5.7.29", 400, "is older than 8.0.29"},
		"unknown":         {nil, "nope", 400, "Datastore version 'nope' cannot be found."},
		"other datastore": {nil, versionID("mariadb", "10.11.6"), 404, "DBDatastoreVersion Not Found"},
		"kept":            {func(w *world, id string) { w.keep(t, id) }, "8.0.29", 409, "still kept"},
		"no machine": {func(w *world, id string) {
			w.change(t, id, func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
		}, "8.0.29", 422, "is stopped"},
		"at work":      {func(w *world, id string) { w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskResizing }) }, "8.0.29", 422, "RESIZING"},
		"in a cluster": {func(w *world, id string) { w.change(t, id, func(i *trove.Instance) { i.ClusterID = "c" }) }, "8.0.29", 501, "cluster"},
		"configuration": {func(w *world, id string) {
			inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
				return errors.Join(
					tx.InsertConfiguration(ctx, trove.Configuration{ID: "g", ProjectID: project, Name: "g", Values: map[string]json.RawMessage{"query_cache_size": json.RawMessage("5")}}),
					tx.PutParameter(ctx, versionID("mysql", "8.0.29"), trove.Parameter{Name: "max_connections", Type: trove.ParameterInteger}))
			})
			w.change(t, id, func(i *trove.Instance) { i.ConfigurationID = "g" })
		}, "8.0.29", 400, "does not fit version 8.0.29: The parameter query_cache_size"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			id := w.old(t)
			if c.prepare != nil {
				c.prepare(w, id)
			}
			before := w.instance(t, id)
			rec := w.ask(t, "member", http.MethodPut, "/instances/"+id, `{"instance":{"datastore_version":"`+c.ref+`"}}`)
			if rec.Code != c.status || !strings.Contains(message(t, rec), c.message) {
				t.Errorf("%d %s, want %d %q", rec.Code, rec.Body, c.status, c.message)
			}
			if row, open := w.openOperation(t, id); open {
				t.Errorf("there is the operation %+v", row.Operation)
			}
			if diff := cmp.Diff(before, w.instance(t, id)); diff != "" {
				t.Errorf("the instance was changed:\n%s", diff)
			}
		})
	}
}

// TestTheSameVersionIsNoUpgrade as in Trove: 202, and nothing is done.
func TestTheSameVersionIsNoUpgrade(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.old(t)
	w.must(t, http.StatusAccepted, "member", http.MethodPut, "/instances/"+id, `{"instance":{"datastore_version":"5.7.29"}}`, nil)
	if _, open := w.openOperation(t, id); open {
		t.Error("an operation was begun")
	}
}

func TestCheckOfAnUpgradeShowsWhatTheDatabaseFound(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.old(t)
	w.guests.found = []guestapi.Finding{{Sentence: "A table is rebuilt."}}
	path := "/instances/" + id + "/upgrade?datastore_version=8.0.29"
	var body wire.UpgradeBody
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &body)
	c := body.Upgrade.Check
	if c == nil || !c.Possible || c.From != "5.7.29" || c.DatastoreVersion != "8.0.29" || len(c.Findings) != 1 || c.Findings[0].Blocks {
		t.Errorf("the check is %+v", c)
	}
	w.guests.found = []guestapi.Finding{{Blocks: true, Sentence: "A table is damaged."}}
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &body)
	if c = body.Upgrade.Check; c.Possible || c.Findings[0].Sentence != "A table is damaged." {
		t.Errorf("the check is %+v", c)
	}
	w.guests.found = nil
	w.change(t, id, func(i *trove.Instance) { i.DatastoreVersionID = versionID("mysql", "8.0.29") })
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/upgrade?datastore_version=5.7.29", "", &body)
	if c = body.Upgrade.Check; c.Possible || len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Sentence, "older") {
		t.Errorf("the check of an older version is %+v", c)
	}
	if rec := w.ask(t, "member", http.MethodGet, "/instances/"+id+"/upgrade?datastore_version=nope", ""); rec.Code != http.StatusBadRequest {
		t.Errorf("an unknown version: %d %s", rec.Code, rec.Body)
	}
	if rec := w.ask(t, "other", http.MethodGet, path, ""); rec.Code != http.StatusForbidden && rec.Code != http.StatusNotFound {
		t.Errorf("another project: %d %s", rec.Code, rec.Body)
	}
	if _, open := w.openOperation(t, id); open {
		t.Error("a check began an operation")
	}
}

func TestKeptDataIsShownAndLeadsBothWays(t *testing.T) {
	for action, kind := range map[string]string{"upgrade_rollback": trove.OpUpgradeRollback, "upgrade_confirm": trove.OpUpgradeConfirm} {
		w := newWorld(t, nil, nil)
		id := w.built(t)
		w.change(t, id, func(i *trove.Instance) { i.DatastoreVersionID = versionID("mysql", "8.0.29") })
		path := "/instances/" + id + "/action"
		rec := w.ask(t, "member", http.MethodPost, path, `{"`+action+`":{}}`)
		if rec.Code != http.StatusBadRequest || !strings.Contains(message(t, rec), "no data of an earlier version is kept") {
			t.Errorf("%s without kept data: %d %s", action, rec.Code, rec.Body)
		}
		w.keep(t, id)
		var body wire.UpgradeBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/upgrade", "", &body)
		if k := body.Upgrade.Kept; k == nil || k.DatastoreVersion != "5.7.29" || k.Bytes != 5 || body.Upgrade.Check != nil {
			t.Errorf("what is kept is %+v", body.Upgrade)
		}
		w.must(t, http.StatusAccepted, "member", http.MethodPost, path, `{"`+action+`":{}}`, nil)
		row, open := w.openOperation(t, id)
		task := w.instance(t, id).Task
		if !open || row.Kind != kind || (task == trove.TaskUpgrading) != (kind == trove.OpUpgradeRollback) {
			t.Errorf("%s: the operation is %+v, the task %s", action, row.Operation, task.Action())
		}
	}
}

// TestTheWayBackIsOpenAfterAFailedUpgrade: its mark is no hindrance for it, and is one for everything else.
func TestTheWayBackIsOpenAfterAFailedUpgrade(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.old(t)
	w.keep(t, id)
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskUpgradingError })
	for body, want := range map[string]int{`{"restart":{}}`: 422, `{"upgrade_confirm":{}}`: 422} {
		if rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", body); rec.Code != want {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	// The mark may be gone: the data is all that there is, all the same.
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskNone })
	rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/action", `{"upgrade_confirm":{}}`)
	if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, rec), "upgrade_rollback") {
		t.Errorf("a confirmation without the mark: %d %s", rec.Code, rec.Body)
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskUpgradingError })
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"upgrade_rollback":{}}`, nil)
}

// TestAnInstanceIsRebootedOntoHalfAnUpgradeAfterItsStatusWasReset: what keeps all but the way back from an upgrade that failed is the kept data, and no reset takes that away.
func TestAnInstanceIsRebootedOntoHalfAnUpgradeAfterItsStatusWasReset(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.old(t)
	w.keep(t, id)
	image := `{"rebuild":{"image_id":"` + imageID + `"}}`
	refused := func(when, want string) {
		t.Helper()
		for path, bodies := range map[string][]string{
			"/instances/" + id + "/action":      {`{"restart":{}}`, `{"stop":{}}`, `{"upgrade_confirm":{}}`, `{"resize":{"volume":{"size":9}}}`},
			"/mgmt/instances/" + id + "/action": {`{"reboot":{}}`, `{"stop":{}}`, image},
		} {
			for _, body := range bodies {
				rec := w.ask(t, "admin", http.MethodPost, path, body)
				if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, rec), want) {
					t.Errorf("%s, %s: %d %s", when, body, rec.Code, rec.Body)
				}
			}
		}
	}
	for path, body := range map[string]string{"/instances/" + id + "/action": `{"reset_status":{}}`, "/mgmt/instances/" + id + "/action": `{"reset-task-status":{}}`} {
		w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskUpgradingError })
		w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, body, nil)
		if task := w.instance(t, id).Task; task != trove.TaskUpgradingError {
			t.Errorf("after %s the task is %s", body, task.Action())
		}
		refused(body, "")
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskNone; i.Guest.Service = trove.ServiceHealthy })
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.SetServiceStatus(ctx, id, trove.ServiceHealthy, w.clock.Now())
	})
	refused("without the mark", "upgrade_rollback")
	if _, open := w.openOperation(t, id); open {
		t.Error("an operation was begun")
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskUpgradingError })
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error { return tx.DeleteKeptData(ctx, id) })
	w.must(t, http.StatusAccepted, "admin", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`, nil)
	if task := w.instance(t, id).Task; task != trove.TaskNone {
		t.Errorf("after a reset of an instance of which nothing is kept the task is %s", task.Action())
	}
}
