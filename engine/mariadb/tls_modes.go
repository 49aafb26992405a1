package mariadb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

var (
	_ engine.TLSSource = (*Engine)(nil)
	_ engine.Certified = (*Engine)(nil)
)

// tlsKept is what was asked for. Its zero value is the state in which a server is made: TLS for those who want it.
type tlsKept struct {
	Off  bool           `json:"off,omitempty"`
	Mode engine.TLSMode `json:"mode,omitempty"`
	Cert []byte         `json:"cert,omitempty"`
	Key  []byte         `json:"key,omitempty"`
	CA   []byte         `json:"ca,omitempty"`
}

func (t tlsKept) equal(o tlsKept) bool {
	return t.Off == o.Off && t.Mode == o.Mode && bytes.Equal(t.Cert, o.Cert) && bytes.Equal(t.Key, o.Key) && bytes.Equal(t.CA, o.CA)
}

func (t tlsKept) mode() engine.TLSMode {
	if t.Mode == "" {
		return engine.TLSBuiltin
	}
	return t.Mode
}

// enforced says that clients must use TLS.
func (t tlsKept) enforced() bool { return t.Mode == engine.TLSEnforced || t.Mode == engine.TLSMutual }

// lines are the options that follow from it. They come after all others, and the last one counts.
func (t tlsKept) lines(p place) []byte {
	var b bytes.Buffer
	switch {
	case t.Off:
		b.WriteString("ssl=\"OFF\"\nrequire_secure_transport=\"OFF\"\n")
	case t.enforced():
		b.WriteString("require_secure_transport=\"ON\"\n")
	}
	if len(t.CA) > 0 {
		fmt.Fprintf(&b, "ssl_ca=\"%s\"\n", valueEscaper.Replace(p.clientCA()))
	}
	return b.Bytes()
}

func (p place) clientCA() string { return filepath.Join(p.runtime(), "clients-ca.crt") }

// TLS implements engine.TLSSource.
func (e *Engine) TLS(_ context.Context, l engine.Layout) (engine.TLS, error) {
	p := place{l}
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return engine.TLS{On: true, Mode: engine.TLSBuiltin}, nil
	}
	if err != nil {
		return engine.TLS{}, err
	}
	now := engine.TLS{On: !k.TLS.Off, Mode: k.TLS.mode()}
	if !now.On {
		return now, nil
	}
	if now.Cert, err = os.ReadFile(p.cert()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return engine.TLS{}, fmt.Errorf("read the certificate: %w", err)
	}
	return now, nil
}

// SetTLS implements engine.TLSSource. The same change once more is no change, so that a rollback still finds what was before it.
func (e *Engine) SetTLS(ctx context.Context, l engine.Layout, c engine.TLSChange) (restart bool, err error) {
	want, err := wantedTLS(c)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	if !k.TLS.equal(want) {
		before := k.TLS
		k.TLS, k.TLSBefore, k.Mutual = want, &before, k.Mutual || want.Mode == engine.TLSMutual
		if err := p.writeKept(k); err != nil {
			return false, err
		}
	}
	return e.takeUpTLS(ctx, p, k)
}

// RollbackTLS implements engine.TLSSource.
func (e *Engine) RollbackTLS(ctx context.Context, l engine.Layout) (restart bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	if k.TLSBefore == nil {
		return false, trove.Errorf(trove.KindBadRequest, "There is no change of TLS that could be rolled back.")
	}
	k.TLS, k.TLSBefore = *k.TLSBefore, nil
	k.Mutual = k.Mutual || k.TLS.Mode == engine.TLSMutual
	if err := p.writeKept(k); err != nil {
		return false, err
	}
	return e.takeUpTLS(ctx, p, k)
}

func wantedTLS(c engine.TLSChange) (tlsKept, error) {
	bad := func(err error, format string, args ...any) (tlsKept, error) {
		return tlsKept{}, trove.Wrap(trove.KindBadRequest, err, format, args...)
	}
	given := len(c.Cert)+len(c.Key) > 0
	switch {
	case c.Off && (given || len(c.CA) > 0 || c.Mode != ""):
		return bad(nil, "TLS that is off has no certificates and no mode.")
	case c.Off:
		return tlsKept{Off: true}, nil
	case c.Mode != engine.TLSBasic && c.Mode != engine.TLSEnforced && c.Mode != engine.TLSMutual:
		return bad(nil, "%q is no mode of TLS: there are basic, enforced and mtls.", string(c.Mode))
	case c.Mode == engine.TLSMutual && len(c.CA) == 0:
		return bad(nil, "The mode mtls needs the certificates of the authorities of clients.")
	}
	if given {
		if _, err := tls.X509KeyPair(c.Cert, c.Key); err != nil {
			return bad(err, "The certificate and its key cannot be used.")
		}
	}
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		return bad(nil, "The certificates of the authorities cannot be used.")
	}
	return tlsKept{Mode: c.Mode, Cert: c.Cert, Key: c.Key, CA: c.CA}, nil
}

// takeUpTLS writes what the server reads and tells the running one. A server that is down takes it up when it starts.
func (e *Engine) takeUpTLS(ctx context.Context, p place, k kept) (restart bool, err error) {
	if len(k.TLS.Cert) == 0 { // a new one of our own, unless one was given when the instance was made
		if err := os.Remove(p.cert()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("forget the certificate: %w", err)
		}
	}
	if err := e.ensureTLS(p, k); err != nil {
		return false, err
	}
	err = p.with(ctx, func(db *sql.Conn) error {
		var have, ca string
		if err := db.QueryRowContext(ctx, "SELECT @@global.have_ssl, COALESCE(@@global.ssl_ca, '')").Scan(&have, &ca); err != nil {
			return fmt.Errorf("ask for the server's TLS: %w", err)
		}
		restart = (have == "YES") == k.TLS.Off || !k.TLS.Off && (ca != "") != (len(k.TLS.CA) > 0)
		return tellTLS(ctx, db, k, restart)
	})
	if trove.KindOf(err) == trove.KindUnavailable {
		return false, nil
	}
	if err == nil {
		err = p.freed(k)
	}
	return restart, err
}

// tellTLS changes the running server. What would lock clients out before the restart that it needs is left to that.
func tellTLS(ctx context.Context, db *sql.Conn, k kept, restart bool) error {
	want := k.TLS
	if !want.Off && !restart {
		if err := exec(ctx, db, "FLUSH SSL"); err != nil {
			return fmt.Errorf("give the server its certificate: %w", err)
		}
	}
	switch {
	case !want.enforced():
		if err := exec(ctx, db, "SET GLOBAL require_secure_transport = OFF"); err != nil {
			return fmt.Errorf("let clients in without TLS: %w", err)
		}
	case !restart:
		if err := exec(ctx, db, "SET GLOBAL require_secure_transport = ON"); err != nil {
			return fmt.Errorf("let in clients with TLS alone: %w", err)
		}
	}
	if !k.Mutual || want.Mode == engine.TLSMutual && restart {
		return nil // accounts that a tenant made to show certificates are his own
	}
	return requireCertificates(ctx, db, want.Mode == engine.TLSMutual)
}

// requireCertificates makes every account that is not the service's own show a certificate, or frees those that had to. An account with a rule of its own,
// for an issuer or a subject, keeps it. It may be repeated.
func requireCertificates(ctx context.Context, db *sql.Conn, on bool) error {
	const number = "COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0)" // 0: none, 1: SSL, 2: X509, 3: a rule of its own
	which, clause := number+" = 2", " REQUIRE NONE"
	if on {
		which, clause = number+" < 2", " REQUIRE X509"
	}
	var accounts []string
	err := texts(ctx, db, 2, func(v []string) { accounts = append(accounts, account(v[0], v[1])) },
		"SELECT User, Host FROM mysql.global_priv WHERE NOT COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) AND Host <> 'localhost' AND "+which)
	if err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	for _, a := range accounts {
		if err := exec(ctx, db, "ALTER USER "+a+clause); err != nil {
			return fmt.Errorf("change what account %s has to show: %w", a, err)
		}
	}
	return nil
}

// newAccount does for an account that was just made what the mode mtls asks for.
func (p place) newAccount(ctx context.Context, db *sql.Conn) error {
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) || err == nil && k.TLS.Mode != engine.TLSMutual {
		return nil
	}
	if err != nil {
		return err
	}
	return requireCertificates(ctx, db, true)
}

// settleCertificates does after a start what a change of the mode could not do while the server was down.
func (e *Engine) settleCertificates(ctx context.Context, p place, db *sql.Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) || err == nil && !k.Mutual {
		return nil
	}
	if err == nil {
		err = requireCertificates(ctx, db, k.TLS.Mode == engine.TLSMutual)
	}
	if err != nil {
		return err
	}
	return p.freed(k)
}

// freed notes that no account has to show a certificate any more by our doing.
func (p place) freed(k kept) error {
	if !k.Mutual || k.TLS.Mode == engine.TLSMutual {
		return nil
	}
	k.Mutual = false
	return p.writeKept(k)
}
