package mysqlfamily

import (
	"context"
	"database/sql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// ensureTLS gives the server the certificate that was asked for or given last, or one of its own.
func (e *Engine) ensureTLS(p Place, k kept) error {
	cert, key, err := p.tls().Given()
	if err != nil {
		return err
	}
	return p.tls().Ensure(k.TLS.KeptTLS, cert, key, k.InstanceID, e.clk.Now())
}

// UseCertificate implements engine.Certified: for connections that begin from then on.
func (e *Engine) UseCertificate(ctx context.Context, l engine.Layout, cert, key []byte) error {
	if len(cert) == 0 {
		return trove.Errorf(trove.KindBadRequest, "There is no certificate.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.Place(l)
	k, err := p.readKept()
	if err != nil {
		return err
	}
	if err := p.tls().Keep(cert, key); err != nil {
		return err
	}
	if k.TLS.Off || len(k.TLS.Cert) > 0 {
		return nil // it is shown when that is over
	}
	if err := p.tls().Write(cert, key); err != nil {
		return err
	}
	err = p.With(ctx, func(db *sql.Conn) error {
		var on bool
		var ca string
		if err := db.QueryRowContext(ctx, p.product.SQL.TLS).Scan(&on, &ca); err != nil || !on {
			return err // it waits for a restart anyway
		}
		return p.reloadTLS(ctx, db, ca != "")
	})
	if trove.KindOf(err) == trove.KindUnavailable {
		return nil
	}
	return err
}
