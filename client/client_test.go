package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/client"
)

// server is a Keystone and a database service that count what they are asked.
type server struct {
	*httptest.Server
	logins  atomic.Int32
	handler http.HandlerFunc
	valid   atomic.Value // the token that is taken
}

func newServer(t *testing.T, handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{handler: handler}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/identity/v3/auth/tokens" {
			s.login(w, r)
			return
		}
		if r.Header.Get("X-Auth-Token") != s.valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprint(w, `{"error":{"code":401,"message":"The request you have made requires authentication."}}`)
			return
		}
		s.handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Password string }
				}
			}
		}
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Auth.Identity.Password.User.Password != "pw" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprint(w, `{"error":{"code":401,"message":"The request you have made requires authentication."}}`)
		return
	}
	token := fmt.Sprintf("token-%d", s.logins.Add(1))
	s.valid.Store(token)
	w.Header().Set("X-Subject-Token", token)
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"token":{"expires_at":%q,"project":{"id":"p"},"catalog":[{"type":"database","endpoints":[{"interface":"public","region":"R","url":%q}]}]}}`,
		time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"), s.URL+"/v1.0/p")
}

func (s *server) config(cache string) client.Config {
	return client.Config{AuthURL: s.URL + "/identity/v3", Username: "u", Password: "pw", Project: "p", Cache: cache}
}

func newClient(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListFollowsThePages(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1.0/p/instances" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		switch r.URL.Query().Get("marker") {
		case "":
			_, _ = fmt.Fprint(w, `{"instances":[{"id":"a"}],"links":[{"rel":"next","href":"https://elsewhere/v1.0/p/instances?limit=1&marker=a"}]}`)
		case "a":
			_, _ = fmt.Fprint(w, `{"instances":[{"id":"b"}]}`)
		}
	})
	all, err := newClient(t, s.config("")).AllInstances(t.Context())
	if err != nil || len(all) != 2 || all[1].ID != "b" {
		t.Fatalf("AllInstances() = %v, %v", all, err)
	}
}

func TestTokenIsCachedAndRenewed(t *testing.T) {
	cache := t.TempDir()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"flavors":[]}`) })
	for range 3 {
		if _, err := newClient(t, s.config(cache)).Flavors(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.logins.Load(); n != 1 {
		t.Fatalf("%d logins for three clients with one cache", n)
	}
	files, err := filepath.Glob(filepath.Join(cache, "token-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("cache files %v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode of the cache: %v, %v", info.Mode(), err)
	}
	s.valid.Store("revoked") // the cached token is refused now
	if _, err := newClient(t, s.config(cache)).Flavors(t.Context()); err != nil {
		t.Fatalf("with a revoked token in the cache: %v", err)
	}
	if n := s.logins.Load(); n != 2 {
		t.Fatalf("%d logins, want a second one", n)
	}
	if err := os.Chmod(files[0], 0o644); err != nil { // others could have read it
		t.Fatal(err)
	}
	if _, err := newClient(t, s.config(cache)).Flavors(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.logins.Load(); n != 3 {
		t.Fatalf("%d logins: a cache that others can read was used", n)
	}
}

func TestWrongPasswordSaysWhatToDo(t *testing.T) {
	s := newServer(t, nil)
	cfg := s.config("")
	cfg.Password = "wrong"
	_, err := newClient(t, cfg).Flavors(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 401 || !strings.Contains(e.Message, "Check user name") {
		t.Fatalf("error %v", err)
	}
}

func TestFaultsBecomeErrors(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Openstack-Request-Id", "req-1")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"itemNotFound":{"code":404,"message":"Resource x cannot be found."}}`)
	})
	_, err := newClient(t, s.config("")).Instance(t.Context(), "x")
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Fault != "itemNotFound" || e.Message != "Resource x cannot be found." || e.RequestID != "req-1" || !client.IsNotFound(err) {
		t.Fatalf("error %#v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	s := newServer(t, nil)
	cfg := s.config("")
	s.Close()
	_, err := newClient(t, cfg).Flavors(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Nothing listens on") {
		t.Fatalf("error %v", err)
	}
}

func TestFindInstanceByName(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1.0/p/instances":
			_, _ = fmt.Fprint(w, `{"instances":[{"id":"a","name":"one"},{"id":"b","name":"two"},{"id":"c","name":"two"}]}`)
		case "/v1.0/p/instances/a":
			_, _ = fmt.Fprint(w, `{"instance":{"id":"a","name":"one","created":"2026-01-02T03:04:05"}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"itemNotFound":{"code":404,"message":"no"}}`)
		}
	})
	c := newClient(t, s.config(""))
	if i, err := c.FindInstance(t.Context(), "one"); err != nil || i.ID != "a" || i.Created == nil {
		t.Errorf("one: %+v, %v", i, err)
	}
	if _, err := c.FindInstance(t.Context(), "two"); err == nil || !strings.Contains(err.Error(), "use an id: b, c") {
		t.Errorf("two: %v", err)
	}
	if _, err := c.FindInstance(t.Context(), "three"); !client.IsNotFound(err) {
		t.Errorf("three: %v", err)
	}
}

func TestUserNamesAreEscaped(t *testing.T) {
	var got string
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath()
		w.WriteHeader(http.StatusAccepted)
	})
	if err := newClient(t, s.config("")).DeleteUser(t.Context(), "i", "a.b/c", "%"); err != nil {
		t.Fatal(err)
	}
	if want := "/v1.0/p/instances/i/users/a%2eb%2Fc%40%25"; got != want {
		t.Fatalf("path %s, want %s", got, want)
	}
}

func TestMissingConfigurationIsNamed(t *testing.T) {
	_, err := client.New(client.Config{AuthURL: "http://x"})
	if err == nil || !strings.Contains(err.Error(), "OS_USERNAME") {
		t.Fatalf("error %v", err)
	}
}
