package postgresql

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// ensureTLS gives the server the certificate that was asked for or given last, or one of its own.
func (e *Engine) ensureTLS(p place, k kept) error {
	cert, key, err := p.tls().Given()
	if err != nil {
		return err
	}
	return p.tls().Ensure(k.TLS.KeptTLS, cert, key, k.InstanceID, e.clk.Now())
}

// UseCertificate implements engine.Certified. The server reads its files again for connections that begin from then on.
func (e *Engine) UseCertificate(ctx context.Context, l engine.Layout, cert, key []byte) error {
	if len(cert) == 0 {
		return trove.Errorf(trove.KindBadRequest, "There is no certificate.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return err
	}
	if err := p.tls().Keep(cert, key); err != nil {
		return err
	}
	if len(k.TLS.Cert) > 0 {
		return nil // it is shown when that is over
	}
	return e.takeUpTLS(ctx, p, k)
}
