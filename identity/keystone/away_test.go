package keystone_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/keystone"
	"github.com/trove-dbaas/trove/internal/clock"
)

// mute and endless are the troubles that last as long as the limit.
const mute, endless = "it never answers", "an answer without end"

// troubles are the ways in which Keystone can fail to answer. Each begins the trouble and returns what ends it.
var troubles = map[string]func(f *fixture) (over func()){
	"nothing listens": func(f *fixture) func() {
		f.fake.server.CloseClientConnections()
		f.fake.server.Close()
		return f.fake.start
	},
	mute: func(f *fixture) func() {
		block := make(chan struct{})
		f.fake.set(func() { f.fake.block = block })
		return func() { f.fake.set(func() { f.fake.block = nil }); close(block) }
	},
	"500":                     status(http.StatusInternalServerError),
	"503":                     status(http.StatusServiceUnavailable),
	"429":                     status(http.StatusTooManyRequests),
	"300":                     status(http.StatusMultipleChoices),
	"403":                     status(http.StatusForbidden),
	"400":                     status(http.StatusBadRequest),
	"401 whatever it is told": status(http.StatusUnauthorized),
	"204":                     status(http.StatusNoContent),
	"a page of a proxy":       body("<html><body>Please log in to the hotel's network</body></html>"),
	"half an answer":          body(`{"token": {"user": {"id": "u`),
	"nothing":                 body(""),
	"null":                    body("null"),
	"a list":                  body("[]"),
	"another object":          body(`{"error": {"code": 200}}`),
	"a token of nobody":       body(`{"token": {"expires_at": "2030-01-01T00:00:00Z", "user": {"id": ""}}}`),
	"a token without an end":  body(`{"token": {"user": {"id": "u"}}}`),
	"another type":            body(`{"token": {"user": "u", "expires_at": 7}}`),
	endless: answers(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
				return
			}
		}
	}),
	"the connection breaks": answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	"the service user is locked out": func(f *fixture) func() {
		f.fake.set(func() { f.fake.loginErr, f.fake.service = http.StatusUnauthorized, "another" })
		return func() { f.fake.set(func() { f.fake.loginErr = 0 }) }
	},
	"logging in fails": func(f *fixture) func() {
		f.fake.set(func() { f.fake.loginErr, f.fake.service = http.StatusBadGateway, "another" })
		return func() { f.fake.set(func() { f.fake.loginErr = 0 }) }
	},
}

func answers(h http.HandlerFunc) func(*fixture) func() {
	return func(f *fixture) func() {
		f.fake.set(func() { f.fake.answer = h })
		return func() { f.fake.set(func() { f.fake.answer = nil }) }
	}
}

// status answers with what was asked about in the body, as a careless proxy may.
func status(code int) func(*fixture) func() {
	return answers(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(r.Header.Get("X-Subject-Token") + " " + r.Header.Get("X-Auth-Token")))
	})
}

func body(text string) func(*fixture) func() {
	return answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
}

// Whatever is wrong with Keystone, a token that is not known is Unavailable within the timeout, never Unauthorized: clients would throw it away. Known ones
// go on until their time is over, and all is well again without a restart.
func TestKeystoneInTrouble(t *testing.T) {
	for name, begin := range troubles {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute
			if name == mute || name == endless {
				timeout = 500 * time.Millisecond
			}
			f := newFixture(t, func(c *keystone.Config) { c.Timeout = timeout })
			known, unknown := f.fake.issue("anna", nil, "member"), f.fake.issue("anna", nil, "member")
			f.learns(t, known)
			over := begin(f)
			took := clock.Stopwatch()
			f.must(t, "an unknown token", unknown, trove.KindUnavailable)
			if d := took(); d > 30*time.Second {
				t.Errorf("the answer took %s", d)
			}
			f.must(t, "no token", "", trove.KindUnauthorized)
			f.fake.clock.Add(keystone.DefaultCacheTime - time.Second)
			f.mustKnow(t, "a known token", known)
			f.fake.clock.Add(time.Second)
			f.must(t, "a known token when its time is over", known, trove.KindUnavailable)
			over()
			f.learns(t, unknown)
			f.learns(t, known)
			f.tellsNoSecrets(t, known, unknown)
			if !strings.Contains(f.log.String(), "Keystone checks tokens again") {
				t.Errorf("the log does not say that it is back:\n%s", f.log)
			}
		})
	}
}

// learns waits until a token is known: a busy machine may need longer than the shortest limit.
func (f *fixture) learns(t *testing.T, token trove.Secret) {
	t.Helper()
	eventually(t, "the token is known", func() bool { _, err := f.user(t, token); return err == nil })
}

// The service can be started while Keystone is away.
func TestKeystoneAwayFromTheBeginning(t *testing.T) {
	f := newFixture(t, func(c *keystone.Config) { c.Timeout = time.Minute })
	over := troubles["nothing listens"](f)
	token := f.fake.issue("anna", nil, "member")
	f.must(t, "away", token, trove.KindUnavailable)
	over()
	f.mustKnow(t, "there", token)
}

// tellsNoSecrets looks for tokens and the password in the log and in what a caller would log.
func (f *fixture) tellsNoSecrets(t *testing.T, tokens ...trove.Secret) {
	t.Helper()
	for _, s := range append(tokens, password) {
		if strings.Contains(f.log.String(), s.Reveal()) {
			t.Errorf("the log has a secret in it:\n%s", f.log)
		}
	}
	if strings.Contains(f.log.String(), "service-") {
		t.Errorf("the log has the service user's token in it:\n%s", f.log)
	}
}

func TestErrorsTellNoSecretsButTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(*fixture) func()
		want  string
	}{
		"not allowed":   {status(http.StatusForbidden), "give it the role service or admin in the project service"},
		"failing":       {status(http.StatusBadGateway), "answered with 502"},
		"refused twice": {status(http.StatusUnauthorized), "after a new login"},
		"locked out": {func(f *fixture) func() {
			f.fake.set(func() { f.fake.password, f.fake.service = "another", "another" })
			return nil
		}, "the user trove of the domain Default cannot log in to the project service"},
	} {
		f := newFixture(t, nil)
		f.mustKnow(t, "before", f.fake.issue("anna", nil, "member"))
		c.begin(f)
		token := f.fake.issue("anna", nil, "member")
		_, err := f.user(t, token)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, secret := range []string{token.Reveal(), password.Reveal(), "service-"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error has a secret in it: %v", name, err)
			}
		}
		if m := trove.MessageOf(err); m != "The Keystone service is temporarily unavailable." {
			t.Errorf("%s: users are told %q", name, m)
		}
	}
}

// What leads elsewhere is not followed: the tokens would go there.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked with %d characters of a token", len(r.Header.Get("X-Subject-Token")))
	}))
	defer elsewhere.Close()
	f := newFixture(t, nil)
	answers(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/v3/auth/tokens", http.StatusTemporaryRedirect)
	})(f)
	f.must(t, "redirected", f.fake.issue("anna", nil, "member"), trove.KindUnavailable)
}

func TestEndpointOfTheRegion(t *testing.T) {
	for region, want := range map[string]string{"RegionTwo": "connection refused", "RegionThree": `no internal endpoint of identity in the region "RegionThree"`} {
		f := newFixture(t, func(c *keystone.Config) { c.Region = region })
		if _, err := f.user(t, f.fake.issue("anna", nil, "member")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", region, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	fake := newFake(t)
	secure := httptest.NewUnstartedServer(fake)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	secure.StartTLS()
	defer secure.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	fake.addr = secure.Listener.Addr().String()
	for file, want := range map[string]string{ca: "", "": "certificate"} {
		f := newFixture(t, func(c *keystone.Config) { c.CAFile, c.AuthURL, c.Region = file, secure.URL+"/v3", "" })
		_, err := f.user(t, "none")
		// The catalogue of the fake names its address without TLS: to be logged in is enough here.
		if err == nil || want != "" && !strings.Contains(err.Error(), want) || want == "" && strings.Contains(err.Error(), "log in") {
			t.Errorf("with %q: %v", file, err)
		}
	}
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, filepath.Join(dir, "none")} {
		cfg := keystone.Config{
			AuthURL: secure.URL, Username: "u", Project: "p", Password: func() (trove.Secret, error) { return "", nil }, CAFile: file,
			Clock: clock.System{}, Log: newLog(),
		}
		if _, err := keystone.New(cfg); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
