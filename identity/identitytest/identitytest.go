// Package identitytest is the suite that every driver of identity must pass.
package identitytest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
)

// Service is what a driver brings: itself, and a way to make what it shall find. Account ids are the driver's own.
type Service struct {
	identity.Authenticator
	// Issue logs the user "anna" (roles member and reader) or "root" (role admin) in to the project "blue", and returns the token.
	Issue func(t *testing.T, user string) trove.Secret
	// Revoke ends a token.
	Revoke func(t *testing.T, token trove.Secret)
	// Advance moves the driver's clock.
	Advance func(d time.Duration)
	// CacheTime is how long the driver takes a token for valid without looking.
	CacheTime time.Duration
	// Life is how long a token is valid.
	Life time.Duration
}

// Run runs the suite. New is called once per test.
func Run(t *testing.T, newService func(t *testing.T) Service) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Service)
	}{
		{"a token names its caller", testCaller},
		{"callers are not mixed up", testSeveral},
		{"what is no token is refused", testGarbage},
		{"a revoked token is refused when the cache time is over", testRevoked},
		{"an expired token is refused, known or not", testExpired},
		{"a service token must be valid", testService},
		{"a call ends with its context", testContext},
		{"many at once", testConcurrent},
		{"clients are told where to log in", func(t *testing.T, s Service) {
			if s.AuthURL() == "" {
				t.Error("AuthURL is empty")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newService(t)) })
	}
}

func (s Service) user(t *testing.T, token trove.Secret) (identity.Caller, error) {
	t.Helper()
	return s.Authenticate(t.Context(), identity.Tokens{User: token})
}

func (s Service) mustRefuse(t *testing.T, what string, tokens identity.Tokens) {
	t.Helper()
	c, err := s.Authenticate(t.Context(), tokens)
	if trove.KindOf(err) != trove.KindUnauthorized || c.UserID != "" || c.Roles != nil {
		t.Errorf("%s: caller %+v and %v, want an Unauthorized error", what, c, err)
	}
}

func testCaller(t *testing.T, s Service) {
	token := s.Issue(t, "anna")
	for range 2 { // not known, and known
		c, err := s.user(t, token)
		if err != nil {
			t.Fatal(err)
		}
		roles := slices.Sorted(slices.Values(c.Roles))
		if c.UserName != "anna" || c.UserID == "" || c.ProjectName != "blue" || c.ProjectID == "" || !slices.Equal(roles, []string{"member", "reader"}) {
			t.Errorf("caller %+v", c)
		}
		if c.UserDomainID == "" || c.ProjectDomainID == "" || c.DomainID != "" || c.System || !c.IsAdminProject || c.ServiceRoles != nil {
			t.Errorf("caller %+v", c)
		}
		if c.Token != token || c.Expires.IsZero() || c.Expires.Location() != time.UTC {
			t.Errorf("it expires at %v, and its token is the one that was given: %v", c.Expires, c.Token == token)
		}
	}
}

func testSeveral(t *testing.T, s Service) {
	tokens := map[trove.Secret]string{s.Issue(t, "anna"): "anna", s.Issue(t, "root"): "root"}
	for range 3 {
		for token, want := range tokens {
			if c, err := s.user(t, token); err != nil || c.UserName != want || c.Token != token || c.HasRole("ADMIN") != (want == "root") {
				t.Errorf("the token of %s belongs to %s (%v), %v", want, c.UserName, c.Roles, err)
			}
		}
	}
}

func testGarbage(t *testing.T, s Service) {
	good := s.Issue(t, "anna")
	for _, token := range []trove.Secret{
		"", " ", "x", "gAAAAABnotatoken", "a\r\nX-Roles: admin", "\x00", "ünïcode", good + "x", good[:len(good)-1], trove.Secret(make([]byte, 20_000)),
	} {
		s.mustRefuse(t, "no token", identity.Tokens{User: token})
	}
	if _, err := s.user(t, good); err != nil {
		t.Errorf("the token that is one: %v", err)
	}
}

func testRevoked(t *testing.T, s Service) {
	known, unknown := s.Issue(t, "anna"), s.Issue(t, "anna")
	if _, err := s.user(t, known); err != nil {
		t.Fatal(err)
	}
	s.Revoke(t, known)
	s.Revoke(t, unknown)
	s.mustRefuse(t, "revoked before it was known", identity.Tokens{User: unknown})
	s.Advance(s.CacheTime)
	s.mustRefuse(t, "revoked, after the cache time", identity.Tokens{User: known})
}

func testExpired(t *testing.T, s Service) {
	known, unknown := s.Issue(t, "anna"), s.Issue(t, "anna")
	c, err := s.user(t, known)
	if err != nil {
		t.Fatal(err)
	}
	s.Advance(s.Life - s.CacheTime/2 - time.Second) // a moment before its end it is known for a while yet
	if _, err := s.user(t, known); err != nil {
		t.Errorf("before its end: %v", err)
	}
	s.Advance(s.CacheTime/2 + 2*time.Second)
	s.mustRefuse(t, "expired at "+c.Expires.String(), identity.Tokens{User: known})
	s.mustRefuse(t, "expired before it was known", identity.Tokens{User: unknown})
}

func testService(t *testing.T, s Service) {
	user := s.Issue(t, "anna")
	if _, err := s.user(t, user); err != nil {
		t.Fatal(err)
	}
	s.mustRefuse(t, "a good user's token with a bad service's", identity.Tokens{User: user, Service: "none"})
	s.mustRefuse(t, "a service's token alone", identity.Tokens{Service: s.Issue(t, "root")})
}

func testContext(t *testing.T, s Service) {
	token := s.Issue(t, "anna")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Authenticate(ctx, identity.Tokens{User: token}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a call that is given up ends with %v", err)
	}
	if _, err := s.user(t, token); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func testConcurrent(t *testing.T, s Service) {
	tokens := []trove.Secret{s.Issue(t, "anna"), s.Issue(t, "root"), "none"}
	names := []string{"anna", "root", ""}
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			c, err := s.Authenticate(t.Context(), identity.Tokens{User: tokens[n%3]})
			if c.UserName != names[n%3] || (err == nil) != (n%3 < 2) {
				t.Errorf("call %d: %q, %v", n, c.UserName, err)
			}
		})
	}
	wg.Wait()
}
