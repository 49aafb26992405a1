package familytest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

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

// certificatesOfAnAuthority: a server that is given certificates which sign nothing themselves shows each at once, and after a restart, whatever it is told of
// the authorities of clients.
func (c Case) certificatesOfAnAuthority(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "pw-1"}}})
	certified, _ := s.Engine.(engine.Certified)
	source, _ := s.Engine.(engine.TLSSource)
	srv := enginetest.Start(t, s)
	shows := func(when string, want []byte) {
		t.Helper()
		got, err := shown(t.Context(), s.Layout)
		if block, _ := pem.Decode(want); err != nil || !bytes.Equal(got, block.Bytes) {
			t.Errorf("%s: clients see another certificate (%v)", when, err)
		}
	}
	sign := authority(t)
	for range 2 {
		cert, key := sign()
		must(t, certified.UseCertificate(t.Context(), s.Layout, cert, key))
		shows("at once", cert)
		srv.Stop()
		srv = enginetest.Start(t, s)
		shows("after a restart", cert)
	}
	cert, key := sign()
	clients, _ := enginetest.Certificate(t, "clients")
	restart, err := source.SetTLS(t.Context(), s.Layout, engine.TLSChange{Mode: engine.TLSEnforced, Cert: cert, Key: key, CA: clients})
	must(t, err)
	if restart {
		srv.Stop()
		enginetest.Start(t, s)
	}
	shows("with authorities of clients", cert)
}

// authority returns a function that makes certificates signed by an authority.
func authority(t *testing.T) func() (cert, key []byte) {
	t.Helper()
	caPEM, caKeyPEM := enginetest.Certificate(t, "authority")
	pair, err := tls.X509KeyPair(caPEM, caKeyPEM)
	must(t, err)
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	must(t, err)
	serial := int64(1)
	return func() (cert, key []byte) {
		serial++
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, pair.PrivateKey)
		must(t, err)
		encoded, err := x509.MarshalPKCS8PrivateKey(private)
		must(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
	}
}
