package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// ask sends a request of the fixture's project; body "" is none.
func (w *world) ask(t testing.TB, token, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	caller := tokens[token]
	var r io.Reader = http.NoBody
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, "http://trove.example:8779/v1.0/"+caller.ProjectID+path, r)
	req.Header.Set("X-Auth-Token", token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return rec
}

// must is ask for a call that has to succeed with the status; the body is read into out unless that is nil.
func (w *world) must(t testing.TB, status int, token, method, path, body string, out any) *httptest.ResponseRecorder {
	t.Helper()
	rec := w.ask(t, token, method, path, body)
	if rec.Code != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, rec.Code, status, rec.Body)
	}
	if out != nil {
		if err := json.Unmarshal(rec.Body.Bytes(), out); err != nil {
			t.Fatal(err)
		}
	}
	return rec
}

// message returns the sentence of a fault.
func message(t testing.TB, rec *httptest.ResponseRecorder) string {
	t.Helper()
	var body map[string]wire.Fault
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
		t.Fatalf("no fault: %v: %s", err, rec.Body)
	}
	for _, f := range body {
		if f.Code != rec.Code {
			t.Errorf("code %d in a body of status %d", f.Code, rec.Code)
		}
		return f.Message
	}
	return ""
}

const minimalCreate = `{"instance":{"name":"db","flavorRef":"2","volume":{"size":3}}}`

// create makes an instance through the API and returns its id and its operation's.
func (w *world) create(t testing.TB) (id, op string) {
	t.Helper()
	var body wire.InstanceBody
	rec := w.must(t, http.StatusOK, "member", http.MethodPost, "/instances", minimalCreate, &body)
	return body.Instance.ID, rec.Header().Get(wire.HeaderOperation)
}

// built is create, and the taskmanager has done its part.
func (w *world) built(t testing.TB) string {
	t.Helper()
	id, _ := w.create(t)
	w.finish(t, id)
	w.activate(t, id)
	w.clock.Add(time.Second)
	w.report(t, id, trove.ServiceHealthy, w.clock.Now())
	return id
}

// inUse returns what the project uses of its quotas.
func (w *world) inUse(t testing.TB) map[string]int {
	t.Helper()
	quotas, err := w.store.Quotas(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, q := range quotas {
		if q.InUse != 0 {
			out[q.Resource] = q.InUse
		}
	}
	return out
}
