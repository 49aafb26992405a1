package keystone_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/keystone"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/tests/ports"
)

const (
	life     = 12 * time.Hour
	password = trove.Secret("swordfish-of-the-service")
)

type object = map[string]any

// fakeKeystone answers as Keystone does, unless a knob says otherwise.
type fakeKeystone struct {
	t      testing.TB
	clock  *clock.Manual
	server *httptest.Server
	addr   string

	mu          sync.Mutex // guards all below
	tokens      map[string]object
	expires     map[string]time.Time
	service     string // the service user's token
	password    string
	serial      int
	validations int
	logins      int

	block    chan struct{} // not nil: a validation waits until it is closed
	answer   http.HandlerFunc
	loginErr int // status of each login; 0: it works
}

func newFake(t testing.TB) *fakeKeystone {
	t.Helper()
	f := &fakeKeystone{
		t: t, clock: clock.NewManual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)), password: password.Reveal(),
		tokens: map[string]object{}, expires: map[string]time.Time{},
	}
	f.start()
	t.Cleanup(func() { f.server.Close() })
	return f
}

// start begins to serve, after a stop at the same address.
func (f *fakeKeystone) start() {
	f.t.Helper()
	if f.addr == "" {
		port, err := ports.Free()
		if err != nil {
			f.t.Fatal(err)
		}
		f.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	l, err := (&net.ListenConfig{}).Listen(f.t.Context(), "tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}}
	f.server.Start()
}

func (f *fakeKeystone) url() string { return "http://" + f.addr + "/v3" }

// set turns knobs.
func (f *fakeKeystone) set(turn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	turn()
}

func (f *fakeKeystone) counts() (validations, logins int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.validations, f.logins
}

// issue makes a token; change may alter what Keystone says of it.
func (f *fakeKeystone) issue(user string, change func(token object), roles ...string) trove.Secret {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serial++
	id := fmt.Sprintf("gAAAAAB-%s-%d", user, f.serial)
	expires := f.clock.Now().Add(life)
	names := []object{}
	for _, r := range roles {
		names = append(names, object{"id": "id-" + r, "name": r})
	}
	token := object{
		"methods": []string{"password"}, "expires_at": expires.Format("2006-01-02T15:04:05.000000Z"), "roles": names,
		"user":    object{"id": "id-" + user, "name": user, "domain": object{"id": "default", "name": "Default"}},
		"project": object{"id": "id-blue", "name": "blue", "domain": object{"id": "projects", "name": "Projects"}},
	}
	if change != nil {
		change(token)
	}
	f.tokens[id], f.expires[id] = token, expires
	return trove.Secret(id)
}

func (f *fakeKeystone) revoke(token trove.Secret) {
	f.set(func() { delete(f.tokens, token.Reveal()) })
}

// forgetService makes the service user's token invalid.
func (f *fakeKeystone) forgetService() { f.set(func() { f.service = "another" }) }

func (f *fakeKeystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/v3/auth/tokens":
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost:
		f.logIn(w, r)
	case r.Method == http.MethodGet:
		f.validate(w, r)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (f *fakeKeystone) logIn(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
			Scope struct {
				Project struct{ Name string }
			}
		}
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins++
	user := body.Auth.Identity.Password.User
	switch {
	case f.loginErr != 0:
		w.WriteHeader(f.loginErr)
		return
	case err != nil || user.Name != "trove" || user.Password != f.password || body.Auth.Scope.Project.Name != "service":
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":{"code":401,"message":"no: %s"}}`, user.Password)
		return
	}
	f.serial++
	f.service = fmt.Sprintf("service-%d", f.serial)
	w.Header().Set("X-Subject-Token", f.service)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(object{"token": object{"expires_at": "2030-01-01T00:00:00.000000Z", "catalog": []object{{
		"type": "identity", "name": "keystone", "endpoints": []object{
			{"interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": f.url()},
			{"interface": "internal", "region": "RegionTwo", "region_id": "RegionTwo", "url": "http://127.0.0.1:1/v3"},
		},
	}}}})
}

func (f *fakeKeystone) validate(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.validations++
	block, answer := f.block, f.answer
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-r.Context().Done():
			return
		}
	}
	if answer != nil {
		answer(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	subject := r.Header.Get("X-Subject-Token")
	token, ok := f.tokens[subject]
	expired := ok && !f.expires[subject].After(f.clock.Now()) && r.URL.Query().Get("allow_expired") != "1"
	switch {
	case r.Header.Get("X-Auth-Token") != f.service:
		w.WriteHeader(http.StatusUnauthorized)
	case !ok || expired:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error":{"code":404,"message":"Could not find token: %s"}}`, subject)
	default:
		_ = json.NewEncoder(w).Encode(object{"token": token})
	}
}

// fixture is a driver in front of the fake.
type fixture struct {
	*keystone.Authenticator
	fake *fakeKeystone
	log  *lockedBuffer
}

func newFixture(t testing.TB, change func(*keystone.Config)) *fixture {
	t.Helper()
	f := &fixture{fake: newFake(t), log: &lockedBuffer{}}
	cfg := keystone.Config{
		AuthURL: f.fake.url(), PublicURL: "https://keystone.example/v3", Username: "trove", Project: "service",
		Password: func() (trove.Secret, error) { return password, nil }, ServiceRoles: []string{"service"}, Region: "RegionOne",
		Clock: f.fake.clock, Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.Authenticator, err = keystone.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
