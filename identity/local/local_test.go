package local_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/identitytest"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

const password = trove.Secret("correct horse")

type fixture struct {
	t       *testing.T
	service *local.Service
	clock   *clock.Manual
	server  *httptest.Server
	project string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "s.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{t: t, clock: clock.NewManual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))}
	f.service = local.New(local.Config{Repository: st, Clock: f.clock, Log: slog.New(slog.DiscardHandler), Region: "RegionOne", Services: []local.CatalogService{
		{Type: "network", Name: "neutron", URL: "https://network.example"},
	}})
	for _, a := range []struct {
		user, project string
		roles         []string
	}{{"anna", "blue", []string{"member"}}, {"otto", "red", []string{"member"}}, {"root", "ops", []string{"admin"}}} {
		_, project, err := f.service.EnsureAccount(t.Context(), a.user, password, a.project, a.roles...)
		if err != nil {
			t.Fatal(err)
		}
		if a.user == "anna" {
			f.project = project
		}
	}
	f.server = httptest.NewServer(f.service)
	t.Cleanup(f.server.Close)
	return f
}

type answer struct {
	status int
	token  string
	header http.Header
	body   map[string]any
}

func (f *fixture) call(method, path, body string, header ...string) answer {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+path, bytes.NewBufferString(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, token: resp.Header.Get("X-Subject-Token"), header: resp.Header}
	if resp.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(resp.Body).Decode(&a.body); err != nil {
			f.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return a
}

func passwordAuth(user, password, scope string) string {
	return `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"` + user +
		`","domain":{"name":"Default"},"password":"` + password + `"}}}` + scope + `}}`
}

const blue = `,"scope":{"project":{"name":"blue","domain":{"name":"Default"}}}`

func TestLogin(t *testing.T) {
	f := newFixture(t)
	a := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), blue))
	if a.status != http.StatusCreated || a.token == "" {
		t.Fatalf("status %d, token %q", a.status, a.token)
	}
	c, err := f.service.Authenticate(t.Context(), identity.Tokens{User: trove.Secret(a.token)})
	if err != nil || c.UserName != "anna" || c.ProjectID != f.project || !slices.Equal(c.Roles, []string{"member"}) {
		t.Fatalf("caller %+v, %v", c, err)
	}
	text, err := json.Marshal(a.body)
	if err != nil || !strings.Contains(string(text), f.server.URL+"/v1.0/"+f.project) {
		t.Fatalf("the catalogue has no endpoint of the project: %s", text)
	}
	if !strings.Contains(string(text), `"name":"neutron","type":"network"`) || !strings.Contains(string(text), `"url":"https://network.example"`) {
		t.Errorf("the catalogue has not got the other service: %s", text)
	}
}

func TestLoginRefused(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"wrong password":   {passwordAuth("anna", "wrong", blue), 401},
		"unknown user":     {passwordAuth("nobody", string(password), blue), 401},
		"foreign project":  {passwordAuth("otto", string(password), blue), 401},
		"unknown project":  {passwordAuth("anna", string(password), `,"scope":{"project":{"name":"none"}}`), 401},
		"domain scope":     {passwordAuth("anna", string(password), `,"scope":{"domain":{"name":"Default"}}`), 400},
		"no JSON":          {"{", 400},
		"unknown method":   {`{"auth":{"identity":{"methods":["totp"]}}}`, 400},
		"empty project":    {passwordAuth("anna", string(password), `,"scope":{"project":{}}`), 400},
		"too large":        {strings.Repeat(" ", 1<<17) + passwordAuth("anna", string(password), blue), 400},
		"password of none": {passwordAuth("", "", blue), 401},
	} {
		if a := f.call(http.MethodPost, "/identity/v3/auth/tokens", c.body); a.status != c.want || a.token != "" {
			t.Errorf("%s: status %d, want %d", name, a.status, c.want)
		}
	}
}

func TestTokenLife(t *testing.T) {
	f := newFixture(t)
	token := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), blue)).token
	f.clock.Add(local.TokenLife - time.Second)
	if _, err := f.service.Authenticate(t.Context(), identity.Tokens{User: trove.Secret(token)}); err != nil {
		t.Fatalf("a second before its end: %v", err)
	}
	f.clock.Add(time.Second)
	if _, err := f.service.Authenticate(t.Context(), identity.Tokens{User: trove.Secret(token)}); trove.KindOf(err) != trove.KindUnauthorized {
		t.Fatalf("after its end: %v", err)
	}
}

func TestRevocationIsImmediate(t *testing.T) {
	f := newFixture(t)
	token := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), blue)).token
	if a := f.call(http.MethodGet, "/identity/v3/auth/tokens", "", "X-Auth-Token", token, "X-Subject-Token", token); a.status != http.StatusOK {
		t.Fatalf("validate: %d", a.status)
	}
	if a := f.call(http.MethodDelete, "/identity/v3/auth/tokens", "", "X-Auth-Token", token, "X-Subject-Token", token); a.status != http.StatusNoContent {
		t.Fatalf("revoke: %d", a.status)
	}
	if _, err := f.service.Authenticate(t.Context(), identity.Tokens{User: trove.Secret(token)}); trove.KindOf(err) != trove.KindUnauthorized {
		t.Fatalf("a revoked token: %v", err)
	}
}

func TestTokensOfOthersAreNotShown(t *testing.T) {
	f := newFixture(t)
	anna := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), blue)).token
	otto := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("otto", string(password), "")).token
	if a := f.call(http.MethodGet, "/identity/v3/auth/tokens", "", "X-Auth-Token", otto, "X-Subject-Token", anna); a.status != http.StatusForbidden {
		t.Errorf("a stranger validates: %d", a.status)
	}
	if a := f.call(http.MethodGet, "/identity/v3/projects/"+f.project, "", "X-Auth-Token", otto); a.status != http.StatusNotFound {
		t.Errorf("a stranger sees the project: %d", a.status)
	}
	if a := f.call(http.MethodGet, "/identity/v3/auth/projects", "", "X-Auth-Token", otto); strings.Contains(jsonOf(t, a.body), "blue") {
		t.Errorf("a stranger's projects: %v", a.body)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRescopeWithToken(t *testing.T) {
	f := newFixture(t)
	unscoped := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), "")).token
	c, err := f.service.Authenticate(t.Context(), identity.Tokens{User: trove.Secret(unscoped)})
	if err != nil || c.ProjectID != "" {
		t.Fatalf("unscoped: %+v, %v", c, err)
	}
	a := f.call(http.MethodPost, "/identity/v3/auth/tokens", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+unscoped+`"}},"scope":{"project":{"id":"`+f.project+`"}}}}`)
	if a.status != http.StatusCreated {
		t.Fatalf("rescope: %d", a.status)
	}
}

func TestDiscovery(t *testing.T) {
	f := newFixture(t)
	if a := f.call(http.MethodGet, "/identity", ""); a.status != http.StatusMultipleChoices {
		t.Errorf("GET /identity: %d", a.status)
	}
	a := f.call(http.MethodGet, "/identity/v3", "")
	if v, ok := a.body["version"].(map[string]any); a.status != http.StatusOK || !ok || v["id"] != "v3.14" {
		t.Errorf("GET /identity/v3: %d %v", a.status, a.body)
	}
	if a := f.call(http.MethodGet, "/identity/v3/nothing", ""); a.status != http.StatusNotFound {
		t.Errorf("an unknown path: %d", a.status)
	}
}

func TestEnsureAccountChangesThePassword(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.service.EnsureAccount(t.Context(), "anna", "another", "blue", "member"); err != nil {
		t.Fatal(err)
	}
	if a := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", string(password), blue)); a.status != 401 {
		t.Errorf("the old password: %d", a.status)
	}
	if a := f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth("anna", "another", blue)); a.status != 201 {
		t.Errorf("the new password: %d", a.status)
	}
}

func TestSuite(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Service {
		f := newFixture(t)
		for user, roles := range map[string][]string{"anna": {"member", "reader"}, "root": {"admin"}} {
			if _, _, err := f.service.EnsureAccount(t.Context(), user, password, "blue", roles...); err != nil {
				t.Fatal(err)
			}
		}
		return identitytest.Service{
			Authenticator: f.service, Advance: f.clock.Add, CacheTime: local.CacheTime, Life: local.TokenLife,
			Issue: func(t *testing.T, user string) trove.Secret {
				t.Helper()
				return trove.Secret(f.call(http.MethodPost, "/identity/v3/auth/tokens", passwordAuth(user, string(password), blue)).token)
			},
			Revoke: func(t *testing.T, token trove.Secret) {
				t.Helper()
				a := f.call(http.MethodDelete, "/identity/v3/auth/tokens", "", "X-Auth-Token", token.Reveal(), "X-Subject-Token", token.Reveal())
				if a.status != http.StatusNoContent {
					t.Fatalf("revoke: %d", a.status)
				}
			},
		}
	})
}
