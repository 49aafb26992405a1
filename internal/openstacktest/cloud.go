// Package openstacktest has fakes of services of OpenStack for tests: a Keystone that knows users and tokens, and endpoints of Swift, Barbican and Designate, as far as
// the drivers use them.
//
// They do what the real services do where a driver depends on it, rights included, and remember who asked for what. Everything may be used by several goroutines.
package openstacktest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// The service's own user.
const (
	ServiceUser     = "trove"
	ServiceUserID   = "5e7f1c0a9b2d4e3f8a6b5c4d3e2f1a0b"
	ServiceProject  = "11111111111111111111111111111111"
	ServicePassword = "service password"
)

// Who is whom a token names.
type Who struct {
	UserID    string
	ProjectID string
	Roles     []string
}

func (w Who) has(role string) bool { return slices.Contains(w.Roles, role) }

// Request is one that a service got.
type Request struct {
	Service string // Keystone, Swift, Barbican, Designate
	Method  string
	Path    string
	Who     Who // nobody: the zero value
}

// Cloud is a fake OpenStack.
type Cloud struct {
	URL   string
	clock clock.Clock

	mu       sync.Mutex
	tokens   map[string]Who
	requests []Request
	failing  map[string][]int // statuses that come next, by service and method
	roles    []string         // of the service's user
	away     map[string]bool

	accounts map[string]*account
	secrets  map[string]*secret
	zones    map[string]*zone
}

// New starts one. The service's user has the roles; "ResellerAdmin" lets it use all accounts of Swift.
func New(t testing.TB, roles ...string) *Cloud {
	t.Helper()
	c := &Cloud{
		clock: clock.System{}, tokens: map[string]Who{}, failing: map[string][]int{}, roles: roles, away: map[string]bool{},
		accounts: map[string]*account{}, secrets: map[string]*secret{}, zones: map[string]*zone{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/identity/v3/auth/tokens", c.logIn)
	mux.HandleFunc("/swift/v1/", c.serve("Swift", c.swift))
	mux.HandleFunc("/barbican/v1/", c.serve("Barbican", c.barbican))
	mux.HandleFunc("/designate/v2/", c.serve("Designate", c.designate))
	// A mux would clean paths, which names of objects must survive.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), "/swift/v1/") {
			c.serve("Swift", c.swift)(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// AuthURL is that of Keystone.
func (c *Cloud) AuthURL() string { return c.URL + "/identity/v3" }

// Token makes a token of a user in a project.
func (c *Cloud) Token(token string, who Who) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[token] = who
}

// FailNext has the next requests of a method to a service answered with statuses, one each.
func (c *Cloud) FailNext(service, method string, statuses ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing[service+method] = append(c.failing[service+method], statuses...)
}

// Away lets a service answer 503 until it is back.
func (c *Cloud) Away(service string, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away[service] = away
}

// Requests returns what came since the last call.
func (c *Cloud) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.requests
	c.requests = nil
	return all
}

// handler serves a request of somebody whom Keystone knows, or of the zero Who. The cloud is locked.
type handler func(w http.ResponseWriter, r *http.Request, who Who)

func (c *Cloud) serve(service string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Openstack-Request-Id", "req-fake")
		body, ok := read(w, r) // what is slow is read before anything is locked
		if !ok {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		who, known := c.tokens[r.Header.Get("X-Auth-Token")]
		c.requests = append(c.requests, Request{Service: service, Method: r.Method, Path: r.URL.Path, Who: who})
		key := service + r.Method
		switch next := c.failing[key]; {
		case c.away[service]:
			w.WriteHeader(http.StatusServiceUnavailable)
		case len(next) > 0:
			c.failing[key] = next[1:]
			w.WriteHeader(next[0])
		case !known:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			r.Body = body
			h(w, r, who)
		}
	}
}

func (c *Cloud) logIn(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct {
						Name     string `json:"name"`
						Password string `json:"password"`
					} `json:"user"`
				} `json:"password"`
			} `json:"identity"`
		} `json:"auth"`
	}
	_ = json.NewDecoder(r.Body).Decode(&ask)
	c.mu.Lock()
	defer c.mu.Unlock()
	user := ask.Auth.Identity.Password.User
	c.requests = append(c.requests, Request{Service: "Keystone", Method: r.Method, Path: r.URL.Path})
	switch {
	case c.away["Keystone"]:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case user.Name != ServiceUser || user.Password != ServicePassword:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.tokens["service-token"] = Who{UserID: ServiceUserID, ProjectID: ServiceProject, Roles: c.roles}
	w.Header().Set("X-Subject-Token", "service-token")
	w.WriteHeader(http.StatusCreated)
	endpoint := func(kind, path string) map[string]any {
		return map[string]any{"type": kind, "name": kind, "endpoints": []any{
			map[string]any{"interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": c.URL + path},
		}}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
		"expires_at": c.clock.Now().Add(time.Hour).Format(time.RFC3339),
		"project":    map[string]any{"id": ServiceProject, "name": "service"},
		"user":       map[string]any{"id": ServiceUserID, "name": ServiceUser},
		"catalog": []any{
			endpoint("identity", "/identity/v3"), endpoint("object-store", "/swift/v1/AUTH_"+ServiceProject), endpoint("key-manager", "/barbican"),
			endpoint("dns", "/designate"),
		},
	}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]any{"title": http.StatusText(status), "description": message, "message": message})
}
