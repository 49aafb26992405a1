package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/store"
)

func TestRequestID(t *testing.T) {
	w := newWorld(t, nil, nil)
	good := telemetry.NewRequestID()
	for sent, taken := range map[string]bool{good: true, "": false, "req-1": false, "req-" + strings.Repeat("x", 36): false, "x\ny": false} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header[wire.HeaderRequestID] = []string{sent}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		got := rec.Header().Get(wire.HeaderRequestID)
		if (got == sent) != taken || !strings.HasPrefix(got, "req-") || len(got) != 40 {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
}

// brokenStore fails or panics where instances are listed.
type brokenStore struct {
	store.Store
	err error
}

func (b brokenStore) Instances(context.Context, store.InstanceFilter) ([]trove.Instance, error) {
	if b.err == nil {
		panic("a defect with secret details")
	}
	return nil, b.err
}

func (b brokenStore) Ping(context.Context) error { return b.err }

// What is our own fault is a 500 that tells the request id and nothing else; the log has the rest.
func TestInternalErrorsTellNothing(t *testing.T) {
	for name, err := range map[string]error{"error": errors.New("disk /var/lib/secret is full"), "panic": nil} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			w := newWorld(t, nil, func(c *api.Config) {
				c.Store = brokenStore{c.Store, err}
				c.Log = telemetry.NewLogger(&log, "json", slog.LevelInfo)
			})
			rec := w.ask(t, "member", http.MethodGet, "/instances", "")
			id := rec.Header().Get(wire.HeaderRequestID)
			if rec.Code != http.StatusInternalServerError || !strings.Contains(message(t, rec), id) || strings.Contains(rec.Body.String(), "secret") {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
			if !strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), id) {
				t.Errorf("the log lacks the cause or the request id:\n%s", &log)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.Store = brokenStore{c.Store, errors.New("away")} })
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthcheck", http.NoBody))
	if rec.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// unavailable is an identity that cannot be asked now.
type unavailable struct{ fakeAuth }

func (unavailable) Authenticate(context.Context, identity.Tokens) (identity.Caller, error) {
	return identity.Caller{}, trove.Errorf(trove.KindUnavailable, "The identity service does not answer.")
}

func TestIdentityAway(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.Auth = unavailable{} })
	rec := w.ask(t, "member", http.MethodGet, "/instances", "")
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Www-Authenticate") != "" {
		t.Errorf("%d %s: a client must not throw its token away for this", rec.Code, rec.Body)
	}
}

// A token of another project reaches nothing of this one, whatever the path looks like.
func TestForeignProjects(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, path := range []string{
		"/v1.0/" + project + "/instances", "/v1.0/" + project + "/instances/" + id, "/v1.0//" + project + "/instances/" + id,
		"/v1.0/" + projectOther + "/../" + project + "/instances", "/v1.0/" + projectOther + "%2F..%2F" + project + "/instances/" + id,
		"/v1.0/" + projectOther + "/instances/" + id, "/v1.0/" + projectOther + "/instances/" + id + "/databases",
		"/v1.0/" + projectOther + "/instances/" + id + "/root", "/v1.0/" + projectOther + "/mgmt/quotas/" + project,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		r.Header.Set("X-Auth-Token", "other")
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code != http.StatusForbidden && rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestRateLimitRecovers(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) {
		c.NoRateLimit, c.Rates = false, map[string]int{http.MethodGet: 2, http.MethodPut: 1}
	})
	for range 2 {
		w.must(t, http.StatusOK, "member", http.MethodGet, "/flavors", "", nil)
	}
	rec := w.must(t, http.StatusRequestEntityTooLarge, "member", http.MethodGet, "/flavors", "", nil)
	if rec.Header().Get("Retry-After") != "30" {
		t.Errorf("Retry-After %s", rec.Header().Get("Retry-After"))
	}
	w.must(t, http.StatusOK, "other", http.MethodGet, "/flavors", "", nil)
	w.clock.Add(30 * time.Second)
	w.must(t, http.StatusOK, "member", http.MethodGet, "/flavors", "", nil)
	w.must(t, http.StatusNotFound, "member", http.MethodPatch, "/instances/"+absentID, `{"instance":{}}`, nil)
	w.must(t, http.StatusRequestEntityTooLarge, "member", http.MethodPut, "/instances/"+absentID, `{"instance":{}}`, nil)
}

func TestLinksFollowThePublicEndpoint(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.PublicEndpoint, c.PageSize = "http://db.example:1/", 1 })
	w.built(t)
	w.built(t)
	var list wire.InstanceList
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances?limit=5", "", &list)
	prefix := "http://db.example:1/v1.0/" + project + "/instances"
	if len(list.Instances) != 1 || list.Instances[0].Links[0].Href != prefix+"/"+list.Instances[0].ID ||
		list.Links[0].Href != prefix+"?limit=5&marker="+list.Instances[0].ID {
		t.Errorf("%+v", list)
	}
}

// Every instance is on exactly one page.
func TestPagesCoverEverything(t *testing.T) {
	w := newWorld(t, nil, nil)
	want := map[string]bool{}
	for range 7 {
		id, _ := w.create(t)
		want[id] = true
	}
	path := "/instances?limit=3"
	for pages := 1; ; pages++ {
		var list wire.InstanceList
		w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &list)
		for _, i := range list.Instances {
			if !want[i.ID] {
				t.Errorf("%s is there twice or not ours", i.ID)
			}
			delete(want, i.ID)
		}
		if len(list.Links) == 0 {
			if pages != 3 || len(want) > 0 {
				t.Errorf("%d pages, missing %v", pages, want)
			}
			return
		}
		_, query, _ := strings.Cut(list.Links[0].Href, "?")
		path = "/instances?" + query
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, nil, func(c *api.Config) { c.Metrics = reg })
	id := w.built(t)
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", nil)
	w.must(t, http.StatusNotFound, "member", http.MethodGet, "/instances/"+absentID+"/nothing", "", nil)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + " "
				if strings.Contains(l.GetValue(), "-") {
					t.Errorf("the label %s=%s looks like an id", l.GetName(), l.GetValue())
				}
			}
			if f.GetName() == "trove_api_requests_total" {
				counted[labels] = m.GetCounter().GetValue()
			}
		}
	}
	if counted["showInstance 200 "] != 1 || counted["none 404 "] != 1 || counted["createInstance 200 "] != 1 {
		t.Errorf("%v", counted)
	}
}

func TestLargeBodies(t *testing.T) {
	w := newWorld(t, nil, nil)
	big := `{"instance":{"name":"` + strings.Repeat("a", 10<<20) + `"}}`
	for name, body := range map[string]io.Reader{
		"with a length": strings.NewReader(big), "in chunks": struct{ io.Reader }{strings.NewReader(big)},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1.0/"+project+"/instances", body)
		r.Header.Set("X-Auth-Token", "member")
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		want := "413 Request Entity Too Large\n\nRequest is too large.\n\n "
		if rec.Code != http.StatusRequestEntityTooLarge || rec.Body.String() != want || rec.Header().Get("Content-Type") != "text/plain; charset=UTF-8" {
			t.Errorf("%s: %d %.200s", name, rec.Code, rec.Body)
		}
	}
}

func TestStrangeBodies(t *testing.T) {
	w := newWorld(t, nil, nil)
	for name, body := range map[string]string{
		"deep": strings.Repeat("[", 100_000), "deep object": `{"instance":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5001),
		"two values": `{"instance":{"name":"x"}} {}`, "NaN": `{"instance":{"name":"x","volume":{"size":NaN}}}`,
		"not UTF-8": "{\"instance\":{\"name\":\"\xff\"}}", "huge exponent": `{"instance":{"name":"x","volume":{"size":1e999999999}}}`,
		"lone surrogate": `{"instance":{"name":"\ud800","flavorRef":"\ud800"}}`, "NUL": `{"instance":{"name":"a\u0000","flavorRef":"\u0000"}}`,
	} {
		rec := w.ask(t, "member", http.MethodPost, "/instances", body)
		if rec.Code < 400 || rec.Code >= 500 {
			t.Errorf("%s: %d %.300s", name, rec.Code, rec.Body)
		}
		if len(message(t, rec)) > 10<<10 {
			t.Errorf("%s: the sentence has %d bytes", name, len(message(t, rec)))
		}
	}
}

// A client that goes away while a guest is asked ends the call; nothing was done.
func TestCancelledRequest(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.guests.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1.0/"+project+"/instances/"+id+"/databases",
		strings.NewReader(`{"databases":[{"name":"app"}]}`))
	r.Header.Set("X-Auth-Token", "member")
	r.Header.Set("Content-Type", "application/json")
	done := make(chan struct{})
	go func() {
		w.handler.ServeHTTP(httptest.NewRecorder(), r)
		close(done)
	}()
	cancel()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the call went on without its client")
	}
	w.guests.block = nil
	if len(w.guests.databases[id]) != 0 {
		t.Errorf("made: %v", w.guests.databases[id])
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("an API without a store was made")
	}
}
