package keystone_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/identitytest"
	"github.com/trove-dbaas/trove/identity/keystone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	identitytest.Run(t, func(t *testing.T) identitytest.Service {
		f := newFixture(t, nil)
		return identitytest.Service{
			Authenticator: f, Advance: f.fake.clock.Add, CacheTime: keystone.DefaultCacheTime, Life: life,
			Issue: func(_ *testing.T, user string) trove.Secret {
				if user == "root" {
					return f.fake.issue(user, nil, "admin")
				}
				return f.fake.issue(user, nil, "member", "reader")
			},
			Revoke: func(_ *testing.T, token trove.Secret) { f.fake.revoke(token) },
		}
	})
}

func (f *fixture) user(t *testing.T, token trove.Secret) (identity.Caller, error) {
	t.Helper()
	return f.Authenticate(t.Context(), identity.Tokens{User: token})
}

func (f *fixture) must(t *testing.T, what string, token trove.Secret, want trove.Kind) {
	t.Helper()
	if _, err := f.user(t, token); err == nil || trove.KindOf(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (f *fixture) mustKnow(t *testing.T, what string, token trove.Secret) {
	t.Helper()
	if _, err := f.user(t, token); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestWhatATokenSays(t *testing.T) {
	f := newFixture(t, nil)
	project := identity.Caller{
		UserID: "id-anna", UserName: "anna", UserDomainID: "default", ProjectID: "id-blue", ProjectName: "blue", ProjectDomainID: "projects",
		Roles: []string{"member"}, IsAdminProject: true,
	}
	for name, c := range map[string]struct {
		change func(object)
		want   func(*identity.Caller)
	}{
		"for a project":          {nil, func(*identity.Caller) {}},
		"not the admin project":  {func(o object) { o["is_admin_project"] = false }, func(c *identity.Caller) { c.IsAdminProject = false }},
		"the admin project":      {func(o object) { o["is_admin_project"] = true }, func(*identity.Caller) {}},
		"from a trust":           {func(o object) { o["OS-TRUST:trust"] = object{"id": "t"} }, func(*identity.Caller) {}},
		"application credential": {func(o object) { o["application_credential"] = object{"id": "a", "restricted": true} }, func(*identity.Caller) {}},
		"for a domain": {func(o object) { delete(o, "project"); o["domain"] = object{"id": "d", "name": "D"} }, func(c *identity.Caller) {
			c.ProjectID, c.ProjectName, c.ProjectDomainID, c.DomainID = "", "", "", "d"
		}},
		"for the system": {func(o object) { delete(o, "project"); o["system"] = object{"all": true} }, func(c *identity.Caller) {
			c.ProjectID, c.ProjectName, c.ProjectDomainID, c.System = "", "", "", true
		}},
		"for nothing": {func(o object) { delete(o, "project"); delete(o, "roles") }, func(c *identity.Caller) {
			c.ProjectID, c.ProjectName, c.ProjectDomainID, c.Roles = "", "", "", nil
		}},
	} {
		want := project
		want.Expires = f.fake.clock.Now().Add(life)
		want.Token = f.fake.issue("anna", c.change, "member")
		c.want(&want)
		got, err := f.user(t, want.Token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// Such a token is for some calls alone, and we do not look which.
	restricted := f.fake.issue("anna", func(o object) { o["application_credential"] = object{"id": "a", "access_rules": []any{}} }, "member")
	f.must(t, "with access rules", restricted, trove.KindUnauthorized)
	if f.AuthURL() != "https://keystone.example/v3" {
		t.Errorf("clients are sent to %s", f.AuthURL())
	}
}

func TestOneThousandRequestsAreOneQuestion(t *testing.T) {
	f := newFixture(t, nil)
	token := f.fake.issue("anna", nil, "member")
	release := make(chan struct{})
	f.fake.set(func() { f.fake.block = release })
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() { f.mustKnow(t, "one of a thousand", token) })
	}
	eventually(t, "the question is asked", func() bool { n, _ := f.fake.counts(); return n == 1 })
	close(release)
	wg.Wait()
	if validations, logins := f.fake.counts(); validations != 1 || logins != 1 {
		t.Errorf("%d validations, %d logins", validations, logins)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // another goroutine is waited for
	}
	t.Fatalf("in 10 s it did not happen that %s", what)
}

// A client that goes away takes nobody along who waits for the same answer, not even if it was the first.
func TestTheFirstCallerMayLeave(t *testing.T) {
	f := newFixture(t, nil)
	token := f.fake.issue("anna", nil, "member")
	release := make(chan struct{})
	f.fake.set(func() { f.fake.block = release })
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := f.Authenticate(ctx, identity.Tokens{User: token})
		first <- err
	}()
	eventually(t, "the question is asked", func() bool { n, _ := f.fake.counts(); return n == 1 })
	second := make(chan error)
	go func() {
		_, err := f.user(t, token)
		second <- err
	}()
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	if n, _ := f.fake.counts(); n != 1 {
		t.Errorf("%d validations", n)
	}
}

func TestCloseEndsQuestions(t *testing.T) {
	f := newFixture(t, func(c *keystone.Config) { c.Timeout = time.Hour })
	token := f.fake.issue("anna", nil, "member")
	f.fake.set(func() { f.fake.block = make(chan struct{}) })
	ended := make(chan error)
	go func() {
		_, err := f.user(t, token)
		ended <- err
	}()
	eventually(t, "the question is asked", func() bool { n, _ := f.fake.counts(); return n == 1 })
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("who waited: %v", err)
	}
	f.must(t, "afterwards", token, trove.KindUnavailable)
}

func TestRefusalsAreRememberedApart(t *testing.T) {
	f := newFixture(t, func(c *keystone.Config) { c.CacheSize = 3 })
	token := f.fake.issue("anna", nil, "member")
	f.mustKnow(t, "the good one", token)
	for _, bad := range []trove.Secret{"a", "b", "c", "d", "a", "d", "d", "d"} {
		f.must(t, "no token", bad, trove.KindUnauthorized)
	}
	if n, _ := f.fake.counts(); n != 6 { // the good one, a to d, and a again, which the fourth has driven out
		t.Errorf("%d validations", n)
	}
	f.mustKnow(t, "the good one, after the flood", token)
	if n, _ := f.fake.counts(); n != 6 {
		t.Errorf("bad tokens have driven out a good one: %d validations", n)
	}
	f.fake.clock.Add(keystone.InvalidTime)
	f.must(t, "d, later", "d", trove.KindUnauthorized)
	if n, _ := f.fake.counts(); n != 7 {
		t.Errorf("%d validations", n)
	}
	for range 4 {
		f.mustKnow(t, "another good one", f.fake.issue("otto", nil, "member"))
	}
	f.mustKnow(t, "the good one, driven out by others", token)
	if n, _ := f.fake.counts(); n != 12 {
		t.Errorf("the cache has no bound: %d validations", n)
	}
}

// The cache time runs from the question on, so that a token that is revoked while Keystone takes its time is not good for longer.
func TestRevokedWithinTheCacheTime(t *testing.T) {
	f := newFixture(t, func(c *keystone.Config) { c.CacheTime = time.Minute })
	token := f.fake.issue("anna", nil, "member")
	f.mustKnow(t, "new", token)
	f.fake.revoke(token)
	f.fake.clock.Add(time.Minute - time.Microsecond)
	f.mustKnow(t, "within the cache time", token)
	f.fake.clock.Add(time.Microsecond)
	f.must(t, "after it", token, trove.KindUnauthorized)
}

func TestServiceTokensVouchForExpiredOnes(t *testing.T) {
	for name, c := range map[string]struct {
		service string // the roles of the service
		any     bool
		fresh   bool // the user's token has not expired
		want    bool
	}{
		"a service, expired":                     {"service", false, false, true},
		"a service, fresh":                       {"service", false, true, true},
		"nobody's role, fresh":                   {"member", false, true, false},
		"nobody's role, expired":                 {"member", false, false, false},
		"nobody's role, any service, fresh":      {"member", true, true, true},
		"nobody's role, any service, expired":    {"member", true, false, false},
		"the role in other letters, any service": {"Service", true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(cfg *keystone.Config) { cfg.AnyService = c.any })
			known, unknown := f.fake.issue("anna", nil, "member"), f.fake.issue("anna", nil, "member")
			f.mustKnow(t, "before", known)
			if !c.fresh {
				f.fake.clock.Add(life)
			}
			service := f.fake.issue("nova", nil, c.service)
			for what, token := range map[string]trove.Secret{"known": known, "unknown": unknown} {
				if !c.fresh {
					f.must(t, "alone", token, trove.KindUnauthorized)
				}
				got, err := f.Authenticate(t.Context(), identity.Tokens{User: token, Service: service})
				if (err == nil) != c.want || err != nil && trove.KindOf(err) != trove.KindUnauthorized {
					t.Errorf("%s: %v, want accepted %v", what, err, c.want)
				}
				if err == nil && (got.UserName != "anna" || cmp.Diff([]string{c.service}, got.ServiceRoles) != "" || got.HasRole("service")) {
					t.Errorf("%s: %+v", what, got)
				}
				if !c.fresh { // what a service was let do gives the user nothing
					f.must(t, "alone, afterwards", token, trove.KindUnauthorized)
				}
			}
		})
	}
}

// Keystone ends the service user's token whenever it likes: after a restart with new keys, or because it has expired.
func TestTheServiceUserLogsInAgain(t *testing.T) {
	f := newFixture(t, nil)
	f.mustKnow(t, "first", f.fake.issue("anna", nil, "member"))
	f.fake.forgetService()
	var wg sync.WaitGroup
	for range 50 {
		token := f.fake.issue("anna", nil, "member")
		wg.Go(func() { f.mustKnow(t, "after the token was ended", token) })
	}
	wg.Wait()
	if _, logins := f.fake.counts(); logins != 2 {
		t.Errorf("%d logins", logins)
	}
	f.fake.forgetService()
	f.must(t, "a token that is none, asked about with a token that is none", "nonsense", trove.KindUnauthorized)
}

func TestANewPasswordNeedsNoRestart(t *testing.T) {
	var mu sync.Mutex
	current := password
	f := newFixture(t, func(c *keystone.Config) {
		c.Password = func() (trove.Secret, error) {
			mu.Lock()
			defer mu.Unlock()
			return current, nil
		}
	})
	f.mustKnow(t, "first", f.fake.issue("anna", nil, "member"))
	f.fake.set(func() { f.fake.password, f.fake.service = "another", "another" })
	token := f.fake.issue("anna", nil, "member")
	f.must(t, "the old password", token, trove.KindUnavailable)
	mu.Lock()
	current = "another"
	mu.Unlock()
	f.mustKnow(t, "the new password", token)
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFixture(t, func(c *keystone.Config) { c.Metrics = reg })
	token := f.fake.issue("anna", nil, "member")
	f.mustKnow(t, "asked", token)
	f.mustKnow(t, "known", token)
	f.must(t, "asked", "none", trove.KindUnauthorized)
	f.fake.set(func() {
		f.fake.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	})
	f.must(t, "asked", "other", trove.KindUnavailable)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, fam := range families {
		for _, m := range fam.GetMetric() {
			name := fam.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue())
		}
	}
	want := map[string]uint64{
		"trove_keystone_cache_hits_total": 1, "trove_keystone_validation_seconds valid": 1, "trove_keystone_validation_seconds invalid": 1,
		"trove_keystone_validation_seconds unavailable": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := keystone.New(keystone.Config{}); err == nil || !strings.Contains(err.Error(), "AuthURL") {
		t.Errorf("%v", err)
	}
}

func BenchmarkKnownToken(b *testing.B) {
	f := newFixture(b, nil)
	token := f.fake.issue("anna", nil, "member")
	for b.Loop() {
		if _, err := f.Authenticate(b.Context(), identity.Tokens{User: token}); err != nil {
			b.Fatal(err)
		}
	}
}
