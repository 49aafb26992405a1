package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/identity"
)

// The project of the URL must be the token's, for administrators too and to the letter; what is somebody else's is not there; and a call that is for
// administrators alone is a 401 for others, so that python-troveclient logs in again and tries once more.
func TestTrap11WhoseProjectItIs(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, c := range []struct {
		name, token, path string
		status            int
		message           string
	}{
		{"another project", "member", "/v1.0/" + projectOther + "/instances", http.StatusForbidden, "Access was denied to this resource."},
		{"an administrator, another project", "admin", "/v1.0/" + projectOther + "/instances", http.StatusForbidden, "Access was denied to this resource."},
		{"in capitals", "member", "/v1.0/" + strings.ToUpper(project) + "/instances", http.StatusForbidden, "Access was denied to this resource."},
		{"somebody else's instance", "other", "/v1.0/" + projectOther + "/instances/" + id, http.StatusNotFound, "Resource " + id + " cannot be found."},
		{"an administrator reads it under his own URL", "admin_other", "/v1.0/" + projectAdmin + "/instances/" + id, http.StatusOK, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, http.NoBody)
		r.Header.Set("X-Auth-Token", c.token)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code != c.status || c.message != "" && message(t, rec) != c.message {
			t.Errorf("%s: %d %s, want %d %s", c.name, rec.Code, rec.Body, c.status, c.message)
		}
	}
	rec := w.ask(t, "member", http.MethodPut, "/mgmt/quotas/"+project, `{"quotas":{"instances":1}}`)
	if rec.Code != http.StatusUnauthorized || message(t, rec) != "User does not have admin privileges." ||
		rec.Header().Get("Www-Authenticate") != `Keystone uri="`+authURL+`"` {
		t.Errorf("%d %s %v", rec.Code, rec.Body, rec.Header())
	}
}

// Headers that keystonemiddleware would set say nothing here.
func TestForgedIdentityHeadersSayNothing(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	forged := map[string]string{
		"X-Identity-Status": "Confirmed", "X-Service-Identity-Status": "Confirmed", "X-Project-Id": project, "X-Tenant-Id": project, "X-Tenant": project,
		"X-User-Id": "u-admin", "X-Roles": "admin", "X-Role": "admin", "X-Is-Admin-Project": "True", "X-Service-Roles": "service",
		"X-Service-Catalog": "[]",
	}
	for token, want := range map[string]int{"other": http.StatusForbidden, "nobody": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1.0/"+project+"/instances/"+id, http.NoBody)
		for name, value := range forged {
			r.Header.Set(name, value)
		}
		r.Header.Set("X-Auth-Token", token)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		if rec.Code != want {
			t.Errorf("token %q: %d %s", token, rec.Code, rec.Body)
		}
	}
}

// tokensSeen is an identity that remembers what it was asked.
type tokensSeen struct {
	fakeAuth
	seen *identity.Tokens
}

func (a tokensSeen) Authenticate(ctx context.Context, t identity.Tokens) (identity.Caller, error) {
	*a.seen = t
	return a.fakeAuth.Authenticate(ctx, t)
}

func TestTokensLeaveTheHeaders(t *testing.T) {
	var seen identity.Tokens
	w := newWorld(t, nil, func(c *api.Config) { c.Auth = tokensSeen{seen: &seen} })
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1.0/"+project+"/instances", http.NoBody)
	for name, value := range map[string]string{
		"X-Auth-Token": "member", "X-Service-Token": "nova", "X-Roles": "admin", "X-Service-User-Domain-Id": "d", "X-Openstack-Request-Id": "req-1",
	} {
		r.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK || seen != (identity.Tokens{User: trove.Secret("member"), Service: trove.Secret("nova")}) {
		t.Errorf("%d, asked with %q and %q", rec.Code, seen.User.Reveal(), seen.Service.Reveal())
	}
	if len(r.Header) != 1 || r.Header.Get("X-Openstack-Request-Id") == "" {
		t.Errorf("left in the request: %v", r.Header)
	}
}
