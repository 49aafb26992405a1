package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// realTime gives the server the machine's clock: long polls last.
func realTime(c *api.Config) { c.Clock = clock.System{} }

func TestLongPollReturnsOnChange(t *testing.T) {
	w := newWorld(t, nil, realTime)
	id, op := w.create(t)
	path := "/instances/" + id + "/operations/" + op
	var first wire.OperationBody
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &first)
	answered := make(chan wire.OperationBody, 1)
	go func() {
		var body wire.OperationBody
		rec := w.ask(t, "member", http.MethodGet, path+"?wait=30s&since="+strconv.FormatInt(first.Operation.Version, 10), "")
		if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
			t.Error(err)
		}
		answered <- body
	}()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.SayOperation(ctx, op, "waiting for the guest, 12 s of 600 s", 40, time.Now())
	})
	select {
	case body := <-answered:
		if o := body.Operation; o.Version <= first.Operation.Version || o.Sentence != "waiting for the guest, 12 s of 600 s" || o.Percent != 40 {
			t.Errorf("%+v", o)
		}
	case <-time.After(time.Minute):
		t.Fatal("the long poll did not answer")
	}
}

func TestLongPollEnds(t *testing.T) {
	w := newWorld(t, nil, realTime)
	id, op := w.create(t)
	path := "/instances/" + id + "/operations/" + op
	var body wire.OperationBody
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"?wait=30ms&since=1000000", "", &body) // the time passes
	if body.Operation.State != "open" || body.Operation.Kind != trove.OpCreate || body.Operation.InstanceID != id {
		t.Errorf("%+v", body.Operation)
	}
	ctx, cancel := context.WithCancel(t.Context()) // the client goes away
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1.0/"+project+path+"?wait=60s&since=1000000", http.NoBody)
	r.Header.Set("X-Auth-Token", "member")
	done := make(chan struct{})
	go func() {
		w.handler.ServeHTTP(httptest.NewRecorder(), r)
		close(done)
	}()
	cancel()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the long poll went on without its client")
	}
	row, _ := w.openOperation(t, id) // an operation that has ended answers at once
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		claimed, err := tx.ClaimOperation(ctx, row, "test", time.Now().Add(time.Minute))
		if err != nil {
			return err
		}
		if err := tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: op, At: time.Now(), Step: "volume", Outcome: "done", Sentence: "the volume is there"}); err != nil {
			return err
		}
		return tx.CloseOperation(ctx, claimed, trove.OperationDone, time.Now())
	})
	w.must(t, http.StatusOK, "member", http.MethodGet, path+"?wait=60s&since=1000000", "", &body)
	if body.Operation.State != "done" || len(body.Operation.Events) != 1 || body.Operation.Events[0].Sentence != "the volume is there" {
		t.Errorf("%+v", body.Operation)
	}
}

// A long poll that runs when the server stops, and one that comes then, are answered at once with what there is.
func TestLongPollEndsWithTheServer(t *testing.T) {
	stops := make(chan struct{})
	w := newWorld(t, nil, func(c *api.Config) { c.Clock, c.Draining = clock.System{}, stops })
	id, op := w.create(t)
	path := "/instances/" + id + "/operations/" + op + "?wait=60s&since=1000000"
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 {
			var body wire.OperationBody
			rec := w.ask(t, "member", http.MethodGet, path, "")
			if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || rec.Code != http.StatusOK || body.Operation.State != "open" {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		}
	}()
	select {
	case <-done:
		t.Error("the long poll did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(stops)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the long poll went on")
	}
}

func TestOperationsAreTheOwners(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	rec := w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	op := rec.Header().Get(wire.HeaderOperation)
	w.finish(t, id) // the instance is gone
	var one wire.OperationBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/operations/"+op, "", &one)
	var all wire.OperationList
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/operations", "", &all)
	if one.Operation.State != "done" || len(all.Operations) != 2 || all.Operations[0].Kind != trove.OpDelete {
		t.Errorf("%+v %+v", one.Operation, all.Operations)
	}
	for _, path := range []string{"/instances/" + id + "/operations", "/instances/" + id + "/operations/" + op, "/instances/" + absentID + "/operations/" + op} {
		token := "other"
		if path == "/instances/"+absentID+"/operations/"+op {
			token = "member"
		}
		if rec := w.ask(t, token, http.MethodGet, path, ""); rec.Code != http.StatusNotFound {
			t.Errorf("%s by %s: %d %s", path, token, rec.Code, rec.Body)
		}
	}
}

func TestCancel(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, op := w.create(t)
	path := "/instances/" + id + "/operations/" + op + "/action"
	if rec := w.ask(t, "other", http.MethodPost, path, `{"cancel":{}}`); rec.Code != http.StatusNotFound {
		t.Errorf("another project: %d %s", rec.Code, rec.Body)
	}
	if rec := w.ask(t, "member", http.MethodPost, path, `{"stop":{}}`); rec.Code != http.StatusBadRequest {
		t.Errorf("another action: %d %s", rec.Code, rec.Body)
	}
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path, `{"cancel":{}}`, nil)
	if row, _ := w.openOperation(t, id); !row.Cancelled {
		t.Error("the operation was not cancelled")
	}
	w.finish(t, id)
	if rec := w.ask(t, "member", http.MethodPost, path, `{"cancel":{}}`); rec.Code != http.StatusConflict {
		t.Errorf("one that has ended: %d %s", rec.Code, rec.Body)
	}
	w.activate(t, id)
	w.report(t, id, trove.ServiceHealthy, w.clock.Now())
	rec := w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	path = "/instances/" + id + "/operations/" + rec.Header().Get(wire.HeaderOperation) + "/action"
	if rec := w.ask(t, "member", http.MethodPost, path, `{"cancel":{}}`); rec.Code != http.StatusConflict {
		t.Errorf("a deletion: %d %s", rec.Code, rec.Body)
	}
}
