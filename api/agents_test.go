package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func TestUpgradeAgent(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	const body = `{"upgrade_agent":{"version":"1.3.0","healthy_seconds":30}}`
	path := "/mgmt/instances/" + id + "/action"
	if rec := w.ask(t, "member", http.MethodPost, path, body); rec.Code != http.StatusUnauthorized {
		t.Errorf("a member: %d %s", rec.Code, rec.Body)
	}
	for _, bad := range []string{
		`{}`, `{"stop":[]}`, `{"upgrade_agent":{"version":"../1"}}`, `{"upgrade_agent":{"healthy_seconds":1}}`, `{"upgrade_agent":{"x":1}}`,
	} {
		if rec := w.ask(t, "admin", http.MethodPost, path, bad); rec.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, rec.Code, rec.Body)
		}
	}
	before, err := w.store.Instance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	rec := w.must(t, http.StatusAccepted, "admin", http.MethodPost, path, body, nil)
	op, err := w.store.OpenOperation(t.Context(), id)
	if err != nil || op.Kind != trove.OpUpgradeAgent || op.ID != rec.Header().Get(wire.HeaderOperation) {
		t.Fatalf("%+v, %v", op, err)
	}
	rows, err := w.store.DueOperations(t.Context(), w.clock.Now(), 10)
	if err != nil || len(rows) != 1 || string(rows[0].Input) != `{"version":"1.3.0","healthy_seconds":30}` {
		t.Errorf("%v %v", rows, err)
	}
	// Users see no change of the instance.
	var shown wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &shown)
	after, err := w.store.Instance(t.Context(), id)
	if err != nil || shown.Instance.Status != "ACTIVE" || after.Task != before.Task {
		t.Errorf("status %s, task %v, %v", shown.Instance.Status, after.Task, err)
	}
	if rec := w.ask(t, "admin", http.MethodPost, path, body); rec.Code != http.StatusUnprocessableEntity {
		t.Errorf("a second one: %d", rec.Code)
	}
}

func TestUpgradeAgentNeedsAMachineThatRuns(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, _ := w.create(t)
	rec := w.ask(t, "admin", http.MethodPost, "/mgmt/instances/"+id+"/action", `{"upgrade_agent":{}}`)
	if rec.Code != http.StatusUnprocessableEntity || !strings.Contains(message(t, rec), "cannot be upgraded now") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestListAgents(t *testing.T) {
	w := newWorld(t, nil, nil)
	want := map[string]string{}
	for _, version := range []string{"1.2.0", "1.3.0", "1.3.0"} {
		id := w.built(t)
		w.clock.Add(1)
		inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
			return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: w.clock.Now(), BootID: "b", Service: trove.ServiceHealthy, AgentVersion: version}})
		})
		want[id] = version
	}
	if rec := w.ask(t, "member", http.MethodGet, "/mgmt/agents", ""); rec.Code != http.StatusForbidden {
		t.Errorf("a member: %d %s", rec.Code, rec.Body)
	}
	got := map[string]string{}
	for marker, more := "", true; more; {
		var page wire.AgentList
		w.must(t, http.StatusOK, "admin", http.MethodGet, "/mgmt/agents?limit=2&marker="+marker, "", &page)
		for _, a := range page.Agents {
			got[a.InstanceID], marker = a.Version, a.InstanceID
			if a.ProjectID != project || !a.Running || a.Seen.IsZero() {
				t.Errorf("%+v", a)
			}
		}
		more = len(page.Links) > 0
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
