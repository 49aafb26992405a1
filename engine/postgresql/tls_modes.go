package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// tlsKept is what was asked for. Its zero value is the state in which a server is made: TLS for those who want it.
type tlsKept struct{ guestfiles.KeptTLS }

// options are what follows from it. Each of them is taken up by the running server.
func (t tlsKept) options(p place) []option {
	if t.Off {
		return []option{{"ssl", "off"}}
	}
	all := []option{{"ssl", "on"}}
	if len(t.CA) > 0 {
		all = append(all, option{"ssl_ca_file", p.tls().ClientCA()})
	}
	return all
}

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
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	if !k.TLS.Equal(want) {
		before := k.TLS
		k.TLS, k.TLSBefore = tlsKept{want}, &before
		if err := p.writeKept(k); err != nil {
			return false, err
		}
	}
	return false, e.takeUpTLS(ctx, p, k)
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
	if err := p.writeKept(k); err != nil {
		return false, err
	}
	return false, e.takeUpTLS(ctx, p, k)
}

// takeUpTLS writes what the server reads and tells the running one, which needs no restart for any of it. A server that is down reads it when it starts.
func (e *Engine) takeUpTLS(ctx context.Context, p place, k kept) error {
	if there, err := guestfiles.Exists(p.runtime()); err != nil || !there { // of a guest that has just booted
		return err
	}
	if len(k.TLS.Cert) == 0 { // a new one of our own, unless one was given when the instance was made
		if err := os.Remove(p.tls().Cert()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forget the certificate: %w", err)
		}
	}
	if err := e.ensureTLS(p, k); err != nil {
		return err
	}
	return p.reread(ctx, k)
}
