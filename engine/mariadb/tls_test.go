package mariadb_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// knock connects as a client does and returns the cipher, "" for none.
func knock(t *testing.T, l engine.Layout, user string, password trove.Secret, c *tls.Config) (cipher string, err error) {
	t.Helper()
	db := clientTLS(t, l, user, password, c)
	defer func() { _ = db.Close() }()
	var name string
	return cipher, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher)
}

// shown returns the certificate that a client sees, whoever it is: the login that follows is refused.
func shown(ctx context.Context, l engine.Layout) (seen []byte, err error) {
	config := clientConfig(l, "nobody", "")
	config.TLS = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		seen = s.PeerCertificates[0].Raw
		return nil
	}}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	err = db.PingContext(ctx)
	if seen != nil {
		err = nil
	}
	return seen, errors.Join(err, db.Close())
}

// TestTLSModes goes through what each mode lets in, with real clients: without TLS, with it, and with a certificate too.
func TestTLSModes(t *testing.T) {
	s := prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "pw-1"}}, RootPassword: "pw-root"})
	source, _ := s.Engine.(engine.TLSSource)
	srv := enginetest.Start(t, s)
	cert, key := enginetest.Certificate(t, "client")
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	plain, secure := (*tls.Config)(nil), &tls.Config{InsecureSkipVerify: true}
	shown := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	for _, step := range []struct {
		change               engine.TLSChange
		restart              bool
		plain, secure, shown bool
	}{
		{engine.TLSChange{Mode: engine.TLSBasic}, false, true, true, false}, // a server without authorities believes no certificate
		{engine.TLSChange{Mode: engine.TLSEnforced}, false, false, true, false},
		{engine.TLSChange{Mode: engine.TLSMutual, CA: cert}, true, false, false, true},
		{engine.TLSChange{Mode: engine.TLSEnforced, CA: cert}, false, false, true, true},
		{engine.TLSChange{Mode: engine.TLSMutual, CA: cert}, false, false, false, true},
		{engine.TLSChange{Off: true}, true, true, false, false},
		{engine.TLSChange{Mode: engine.TLSEnforced}, true, false, true, false},
		{engine.TLSChange{Mode: engine.TLSBasic}, false, true, true, false},
	} {
		restart, err := source.SetTLS(t.Context(), s.Layout, step.change)
		if err != nil || restart != step.restart {
			t.Fatalf("%+v: restart %t, %v", step.change, restart, err)
		}
		if restart { // nobody is locked out before it
			if _, err := knock(t, s.Layout, "alice", "pw-1", secure); err != nil && !strings.Contains(err.Error(), "TLS") {
				t.Errorf("%s: before the restart: %v", step.change.Mode, err)
			}
			srv.Stop()
			srv = enginetest.Start(t, s)
		}
		for user, password := range map[string]trove.Secret{"alice": "pw-1", "root": "pw-root"} {
			for what, try := range map[string]struct {
				config *tls.Config
				want   bool
			}{"plain": {plain, step.plain}, "TLS": {secure, step.secure}, "TLS with a certificate": {shown, step.shown}} {
				cipher, err := knock(t, s.Layout, user, password, try.config)
				if (err == nil) != try.want || err == nil && (cipher != "") != (try.config != nil) {
					t.Errorf("off %t %s: %s as %s: cipher %q, %v", step.change.Off, step.change.Mode, what, user, cipher, err)
				}
			}
		}
	}
}

// TestNewAccountsShowCertificatesToo: a user that is made under mtls, a new root and a changed password are no way round it.
func TestNewAccountsShowCertificatesToo(t *testing.T) {
	s := prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "pw-1"}}})
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
