package mysqlfamily

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

var (
	_ engine.TLSSource = (*Engine)(nil)
	_ engine.Certified = (*Engine)(nil)
)

// tlsKept is what was asked for. Its zero value is the state in which a server is made: TLS for those who want it.
type tlsKept struct{ guestfiles.KeptTLS }

// lines are the options that follow from it. They come after all others, and the last one counts.
func (t tlsKept) lines(p Place) []byte {
	var b bytes.Buffer
	switch {
	case t.Off:
		fmt.Fprintf(&b, "%s=\"%s\"\nrequire_secure_transport=\"OFF\"\n", p.product.TLSOff.Name, p.product.TLSOff.Value)
	case t.Enforced():
		b.WriteString("require_secure_transport=\"ON\"\n")
	}
	if len(t.CA) > 0 {
		fmt.Fprintf(&b, "ssl_ca=\"%s\"\n", valueEscaper.Replace(p.tls().ClientCA()))
	}
	return b.Bytes()
}

// TLS implements engine.TLSSource.
func (e *Engine) TLS(_ context.Context, l engine.Layout) (engine.TLS, error) {
	p := e.Place(l)
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return engine.TLS{On: true, Mode: engine.TLSBuiltin}, nil
	}
	if err != nil {
		return engine.TLS{}, err
	}
	return k.TLS.Shown(p.tls())
}

// SetTLS implements engine.TLSSource. The same change once more is no change, so that a rollback still finds what was before it.
func (e *Engine) SetTLS(ctx context.Context, l engine.Layout, c engine.TLSChange) (restart bool, err error) {
	want, err := guestfiles.WantedTLS(c)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.Place(l)
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	if !k.TLS.Equal(want) {
		before := k.TLS
		k.TLS, k.TLSBefore, k.Mutual = tlsKept{want}, &before, k.Mutual || want.Mode == engine.TLSMutual
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
	p := e.Place(l)
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

// takeUpTLS writes what the server reads and tells the running one. A server that is down takes it up when it starts.
func (e *Engine) takeUpTLS(ctx context.Context, p Place, k kept) (restart bool, err error) {
	if len(k.TLS.Cert) == 0 { // a new one of our own, unless one was given when the instance was made
		if err := os.Remove(p.tls().Cert()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("forget the certificate: %w", err)
		}
	}
	if err := e.ensureTLS(p, k); err != nil {
		return false, err
	}
	err = p.With(ctx, func(db *sql.Conn) error {
		var on bool
		var ca string
		if err := db.QueryRowContext(ctx, e.product.SQL.TLS).Scan(&on, &ca); err != nil {
			return fmt.Errorf("ask for the server's TLS: %w", err)
		}
		another := (ca != "") != (len(k.TLS.CA) > 0)
		restart = on == k.TLS.Off || !k.TLS.Off && another && e.product.LiveCA == ""
		if !k.TLS.Off && !restart {
			if err := p.reloadTLS(ctx, db, len(k.TLS.CA) > 0); err != nil {
				return err
			}
		}
		return p.tellTLS(ctx, db, k, restart)
	})
	if trove.KindOf(err) == trove.KindUnavailable {
		return false, nil
	}
	if err == nil {
		err = p.freed(k)
	}
	return restart, err
}

// reloadTLS makes the running server read its certificate, and the authorities where it can.
func (p Place) reloadTLS(ctx context.Context, db *sql.Conn, authorities bool) error {
	if p.product.LiveCA != "" {
		var path any // NULL: an empty text would be a file without a name
		if authorities {
			path = p.tls().ClientCA()
		}
		if _, err := db.ExecContext(ctx, p.product.LiveCA, path); err != nil {
			return fmt.Errorf("give the server the authorities of clients: %w", err)
		}
	}
	err := Exec(ctx, db, p.product.ReloadTLS)
	if err != nil && p.product.ForceTLS != "" && strings.Contains(err.Error(), p.product.Unproven) {
		err = Exec(ctx, db, p.product.ForceTLS)
	}
	if err != nil {
		return fmt.Errorf("give the server its certificate: %w", err)
	}
	return nil
}

// tellTLS changes the running server. What would lock clients out before the restart that it needs is left to that.
func (p Place) tellTLS(ctx context.Context, db *sql.Conn, k kept, restart bool) error {
	want := k.TLS
	switch {
	case !want.Enforced():
		if err := Exec(ctx, db, "SET GLOBAL require_secure_transport = OFF"); err != nil {
			return fmt.Errorf("let clients in without TLS: %w", err)
		}
	case !restart:
		if err := Exec(ctx, db, "SET GLOBAL require_secure_transport = ON"); err != nil {
			return fmt.Errorf("let in clients with TLS alone: %w", err)
		}
	}
	if !k.Mutual || want.Mode == engine.TLSMutual && restart {
		return nil // accounts that a tenant made to show certificates are his own
	}
	return p.product.requireCertificates(ctx, db, want.Mode == engine.TLSMutual)
}

// requireCertificates makes every account that is not the service's own show a certificate, or frees those that had to. An account with a rule of its own,
// for an issuer or a subject, keeps it. It may be repeated.
func (p *Product) requireCertificates(ctx context.Context, db *sql.Conn, on bool) error {
	which, clause := p.SQL.Proven, " REQUIRE NONE"
	if on {
		which, clause = p.SQL.Unproven, " REQUIRE X509"
	}
	var accounts []string
	err := Texts(ctx, db, 2, func(v []string) {
		if !slices.Contains(p.OwnUsers, v[0]) {
			accounts = append(accounts, account(v[0], v[1]))
		}
	}, which)
	if err != nil {
		return fmt.Errorf("list the accounts: %w", err)
	}
	for _, a := range accounts {
		if err := Exec(ctx, db, "ALTER USER "+a+clause); err != nil {
			return fmt.Errorf("change what account %s has to show: %w", a, err)
		}
	}
	return nil
}

// newAccount does for an account that was just made what the mode mtls asks for.
func (p Place) newAccount(ctx context.Context, db *sql.Conn) error {
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) || err == nil && k.TLS.Mode != engine.TLSMutual {
		return nil
	}
	if err != nil {
		return err
	}
	return p.product.requireCertificates(ctx, db, true)
}

// settleCertificates does after a start what a change of the mode could not do while the server was down.
func (e *Engine) settleCertificates(ctx context.Context, p Place, db *sql.Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) || err == nil && !k.Mutual {
		return nil
	}
	if err == nil {
		err = p.product.requireCertificates(ctx, db, k.TLS.Mode == engine.TLSMutual)
	}
	if err != nil {
		return err
	}
	return p.freed(k)
}

// freed notes that no account has to show a certificate any more by our doing.
func (p Place) freed(k kept) error {
	if !k.Mutual || k.TLS.Mode == engine.TLSMutual {
		return nil
	}
	k.Mutual = false
	return p.writeKept(k)
}
