package familytest

import (
	"crypto/tls"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// TLSStep is a change of a server's TLS, whether it waits for a restart, and whom the server lets in after it: without TLS, with it, and with a certificate of
// the authority that Change is given.
type TLSStep struct {
	Change               func(authority []byte) engine.TLSChange
	Restart              bool
	Plain, Secure, Shown bool
}

// knock connects as a client does and returns the cipher, "" for none.
func knock(t *testing.T, l engine.Layout, user string, password trove.Secret, c *tls.Config) (cipher string, err error) {
	t.Helper()
	db := clientTLS(t, l, user, password, c)
	defer func() { _ = db.Close() }()
	var name string
	return cipher, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher)
}

// tlsModes goes through what each mode lets in, with real clients: without TLS, with it, and with a certificate too.
func (c Case) tlsModes(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "pw-1"}}, RootPassword: "pw-root"})
	source, _ := s.Engine.(engine.TLSSource)
	srv := enginetest.Start(t, s)
	cert, key := enginetest.Certificate(t, "client")
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	plain, secure := (*tls.Config)(nil), &tls.Config{InsecureSkipVerify: true}
	shown := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	for _, step := range c.TLS {
		change := step.Change(cert)
		restart, err := source.SetTLS(t.Context(), s.Layout, change)
		if err != nil || restart != step.Restart {
			t.Fatalf("%+v: restart %t, %v", change, restart, err)
		}
		if restart { // nobody is locked out before it
			if _, err := knock(t, s.Layout, "alice", "pw-1", secure); err != nil && !strings.Contains(err.Error(), "TLS") {
				t.Errorf("%s: before the restart: %v", change.Mode, err)
			}
			srv.Stop()
			srv = enginetest.Start(t, s)
		}
		for user, password := range map[string]trove.Secret{"alice": "pw-1", "root": "pw-root"} {
			for what, try := range map[string]struct {
				config *tls.Config
				want   bool
			}{"plain": {plain, step.Plain}, "TLS": {secure, step.Secure}, "TLS with a certificate": {shown, step.Shown}} {
				cipher, err := knock(t, s.Layout, user, password, try.config)
				if (err == nil) != try.want || err == nil && (cipher != "") != (try.config != nil) {
					t.Errorf("off %t %s: %s as %s: cipher %q, %v", change.Off, change.Mode, what, user, cipher, err)
				}
			}
		}
	}
}

// newAccountsShowCertificatesToo: a user that is made under mtls, a new root and a changed password are no way round it.
func (c Case) newAccountsShowCertificatesToo(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "pw-1"}}})
	source, _ := s.Engine.(engine.TLSSource)
	srv := enginetest.Start(t, s)
	cert, _ := enginetest.Certificate(t, "client")
	_, err := source.SetTLS(t.Context(), s.Layout, engine.TLSChange{Mode: engine.TLSMutual, CA: cert})
	must(t, err)
	srv.Stop()
	enginetest.Start(t, s)
	must(t, s.Engine.CreateUser(t.Context(), s.Layout, trove.User{Name: "bob", Password: "pw-2"}))
	must(t, s.Engine.EnableRoot(t.Context(), s.Layout, "pw-root"))
	next := trove.Secret("pw-3")
	must(t, s.Engine.UpdateUser(t.Context(), s.Layout, "alice", "", engine.UserChange{Password: &next}))
	for user, password := range map[string]trove.Secret{"alice": "pw-3", "bob": "pw-2", "root": "pw-root"} {
		if _, err := knock(t, s.Layout, user, password, &tls.Config{InsecureSkipVerify: true}); err == nil {
			t.Errorf("%s came in without a certificate", user)
		}
	}
}
