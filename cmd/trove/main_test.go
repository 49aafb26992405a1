package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trove": main})
}

// cloud is an Identity and a database service with one instance and an operation that does not end.
type cloud struct {
	*httptest.Server
	polled chan struct{} // receives when an operation is watched
}

func newCloud() *cloud {
	c := &cloud{polled: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	answer := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Subject-Token", "t")
			w.Header().Set("X-Trove-Operation", "o")
			_, _ = fmt.Fprint(w, strings.ReplaceAll(body, "HOST", r.Host))
		})
	}
	answer("POST /identity/v3/auth/tokens", `{"token":{"expires_at":"2126-01-01T00:00:00.000000Z","project":{"id":"p"},
		"catalog":[{"type":"database","endpoints":[{"interface":"public","region":"R","url":"http://HOST/v1.0/p"}]}]}}`)
	const shop = `{"id":"i","name":"shop","status":"ACTIVE","flavor":{"id":"1"},"datastore":{"type":"mariadb","version":"10.11"},"volume":{"size":1}}`
	answer("GET /v1.0/p/instances", `{"instances":[`+shop+`]}`)
	answer("GET /v1.0/p/instances/shop", `{"instance":`+shop+`}`)
	answer("POST /v1.0/p/instances/i/action", "")
	mux.HandleFunc("GET /v1.0/p/flavors", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Openstack-Request-Id", "req-1")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprint(w, `{"computeFault":{"code":500,"message":"It broke."}}`)
	})
	mux.HandleFunc("GET /v1.0/p/instances/i/operations/o", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait") != "" {
			c.polled <- struct{}{}
			<-r.Context().Done()
			return
		}
		_, _ = fmt.Fprint(w, `{"operation":{"id":"o","kind":"instance.restart","state":"open","step":"engine","percent":40,"version":1}}`)
	})
	c.Server = httptest.NewServer(mux)
	return c
}

func TestStories(t *testing.T) {
	c := newCloud()
	t.Cleanup(c.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("OS_AUTH_URL", c.URL+"/identity/v3")
			env.Setenv("OS_USERNAME", "u")
			env.Setenv("OS_PASSWORD", "pw")
			env.Setenv("OS_PROJECT_NAME", "p")
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// watched waits until somebody waits for the operation.
			"watched": func(ts *testscript.TestScript, _ bool, _ []string) {
				select {
				case <-c.polled:
				case <-time.After(time.Minute):
					ts.Fatalf("nobody watches the operation")
				}
			},
		},
	})
}

// TestReplacedVariables: what the engine's client is told counts, and not what was set before under the same name.
func TestReplacedVariables(t *testing.T) {
	got := replaced([]string{"PGSSLMODE=disable", "HOME=/root", "PGSSL=1"}, []string{"PGSSLMODE=verify-full"})
	if want := []string{"PGSSLMODE=verify-full", "HOME=/root", "PGSSL=1"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
