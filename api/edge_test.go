package api_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/edge"
)

// plain sends a request without a token.
func plain(t testing.TB, h http.Handler, method, path string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://trove.example:8779"+path, http.NoBody)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestHealthSpeaksAsOsloMiddleware(t *testing.T) {
	disabled := false
	w := newWorld(t, nil, func(c *api.Config) { c.Disabled = func(*http.Request) bool { return disabled } })
	for _, c := range []struct {
		method, accept string
		disabled       bool
		status         int
		kind, body     string
	}{
		{"GET", "", false, 200, "text/plain; charset=UTF-8", "OK"},
		{"GET", "*/*", false, 200, "text/plain; charset=UTF-8", "OK"},
		{"GET", "application/json", false, 200, "application/json", `{"detailed":false,"reasons":["OK"]}`},
		{"GET", "text/plain;q=0.2, application/json;q=0.8", true, 503, "application/json", `{"detailed":false,"reasons":["DISABLED BY FILE"]}`},
		{"GET", "text/html", true, 503, "text/plain; charset=UTF-8", "DISABLED BY FILE"},
		{"HEAD", "", false, 204, "", ""},
		{"HEAD", "", true, 503, "text/plain; charset=UTF-8", ""},
	} {
		disabled = c.disabled
		rec := plain(t, w.handler, c.method, "/healthcheck", map[string]string{"Accept": c.accept})
		body := rec.Body.String()
		if c.method == http.MethodHead {
			body = "" // what the server of net/http leaves out
		}
		if rec.Code != c.status || rec.Header().Get("Content-Type") != c.kind || body != c.body {
			t.Errorf("%+v: %d %q %q", c, rec.Code, rec.Header().Get("Content-Type"), body)
		}
	}
}

// Behind a proxy that is trusted all links are what clients called, and the audit has their address.
func TestLinksAndAddressesBehindAProxy(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.FollowRequest, c.PageSize = true, 1 })
	w.handler = edge.Forwarded([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, w.handler)
	w.built(t)
	w.built(t)
	header := map[string]string{
		"X-Auth-Token": "member", "X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "db.example", "X-Forwarded-Prefix": "/trove",
	}
	const base = "https://db.example/trove/v1.0/"
	for path, links := range map[string][]string{
		"/":                               {base},
		"/v1.0/":                          {base},
		"/v1.0/" + project + "/instances": {base + project + "/instances/", base + project + "/instances?marker=", "https://db.example/trove/instances/"},
		"/v1.0/" + project + "/flavors":   {base + project + "/flavors/2"},
	} {
		rec := plain(t, w.handler, http.MethodGet, path, header)
		for _, link := range links {
			if !strings.Contains(rec.Body.String(), `"href":"`+link) {
				t.Errorf("%s has no link %s: %s", path, link, rec.Body)
			}
		}
		if strings.Contains(rec.Body.String(), "trove.example") {
			t.Errorf("%s has a link to the server's own name: %s", path, rec.Body)
		}
	}
	if rec := plain(t, w.handler, http.MethodGet, "/", nil); !strings.Contains(rec.Body.String(), `"http://trove.example:8779/v1.0/"`) {
		t.Errorf("without a proxy: %s", rec.Body)
	}
	plain(t, w.handler, http.MethodDelete, "/v1.0/"+project+"/instances/"+absentID, header)
	if a := w.audit(t)[0]; a.Remote != "198.51.100.7" {
		t.Errorf("%+v", a)
	}
}

func (w *world) limit(t *testing.T, verb string) wire.Limit {
	t.Helper()
	var out wire.Limits
	w.must(t, http.StatusOK, "other", http.MethodGet, "/limits", "", nil) // another project's do not count
	w.must(t, http.StatusOK, "member", http.MethodGet, "/limits", "", &out)
	for _, l := range out.Limits {
		if l.Verb == verb {
			return l
		}
	}
	t.Fatalf("no limit of %s", verb)
	return wire.Limit{}
}

func TestLimitsTellWhatIsLeft(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) {
		c.NoRateLimit, c.Rates = false, map[string]int{http.MethodDelete: 2, http.MethodPut: 0}
	})
	if l := w.limit(t, http.MethodDelete); *l.Remaining != 2 || *l.Value != 2 {
		t.Errorf("before: %d of %d", *l.Remaining, *l.Value)
	}
	for range 2 {
		w.must(t, http.StatusNotFound, "member", http.MethodDelete, "/instances/"+absentID, "", nil)
	}
	rec := w.must(t, http.StatusRequestEntityTooLarge, "member", http.MethodDelete, "/instances/"+absentID, "", nil)
	if message(t, rec) != "This request was rate-limited." || rec.Header().Get("Retry-After") != "30" ||
		!strings.Contains(rec.Body.String(), `"details":"Only 2 DELETE request(s) can be made to * every minute.","retryAfter":"30"`) {
		t.Errorf("%v %s", rec.Header(), rec.Body)
	}
	next := w.clock.Now().Add(30*time.Second).Format(wire.Layout) + "Z"
	if l := w.limit(t, http.MethodDelete); *l.Remaining != 0 || *l.NextAvailable != next {
		t.Errorf("after: %d, next %s, want %s", *l.Remaining, *l.NextAvailable, next)
	}
	w.clock.Add(30 * time.Second)
	if l := w.limit(t, http.MethodDelete); *l.Remaining != 1 || *l.NextAvailable != next {
		t.Errorf("later: %d, next %s", *l.Remaining, *l.NextAvailable)
	}
	for range 300 { // 0 is no limit
		w.must(t, http.StatusNotFound, "member", http.MethodPut, "/instances/"+absentID, `{"instance":{}}`, nil)
	}
}

func TestLongPollCountsOnce(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.NoRateLimit, c.Rates = false, map[string]int{http.MethodGet: 4} })
	id, op := w.create(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/operations/"+op+"?wait=30ms&since=99", "", nil)
	}()
	for waits := true; waits; {
		select {
		case <-done:
			waits = false
		case <-time.After(100 * time.Millisecond): // it looks several times, once it has begun
			w.clock.Add(30 * time.Millisecond)
		}
	}
	if l := w.limit(t, http.MethodGet); *l.Remaining != 2 { // the poll and /limits itself
		t.Errorf("%d of 4 left", *l.Remaining)
	}
}
