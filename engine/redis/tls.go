package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// tlsKept is what was asked for. Its zero value is the state in which a server is made: TLS for those who want it.
type tlsKept struct{ guestfiles.KeptTLS }

// options are what follows from it. The port for TLS is the same in every mode, so that clients with TLS need not know.
func (t tlsKept) options(p place) []option {
	plain, secure, clients, ca := port, tlsPort, "no", ""
	if t.Off {
		secure = 0
	}
	if t.Enforced() {
		plain = 0
	}
	if len(t.CA) > 0 {
		clients, ca = "optional", p.tls().ClientCA()
	}
	if t.Mode == engine.TLSMutual {
		clients = "yes"
	}
	return []option{
		{"port", strconv.Itoa(plain)},
		{"tls-port", strconv.Itoa(secure)},
		{"tls-cert-file", p.tls().Cert()},
		{"tls-key-file", p.tls().Key()},
		{"tls-ca-cert-file", ca},
		{"tls-auth-clients", clients},
	}
}

// ensureTLS gives the server the certificate that was asked for or given last, or one of its own.
func (e *Engine) ensureTLS(p place, k kept) error {
	return p.tls().Ensure(k.TLS.KeptTLS, k.GivenCert, k.GivenKey, k.InstanceID, e.clk.Now())
}

func checkPair(cert, key []byte) error {
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The certificate and its key cannot be used.")
	}
	return nil
}

// TLS implements engine.TLSSource.
func (e *Engine) TLS(_ context.Context, l engine.Layout) (engine.TLS, error) {
	p := e.at(l)
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return engine.TLS{On: true, Mode: engine.TLSBuiltin}, nil
	}
	if err != nil {
		return engine.TLS{}, err
	}
	return k.TLS.Shown(p.tls())
}

// SetTLS implements engine.TLSSource. The running server takes up every change at once. The same change once more is no change, so that a rollback still
// finds what was before it.
func (e *Engine) SetTLS(ctx context.Context, l engine.Layout, c engine.TLSChange) (restart bool, err error) {
	want, err := guestfiles.WantedTLS(c)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.at(l)
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	next := k
	if !k.TLS.Equal(want) {
		next.TLS, next.TLSBefore = tlsKept{want}, &k.TLS
	}
	return false, e.changeTLS(ctx, p, k, next)
}

// RollbackTLS implements engine.TLSSource.
func (e *Engine) RollbackTLS(ctx context.Context, l engine.Layout) (restart bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.at(l)
	k, err := p.readKept()
	if err != nil {
		return false, err
	}
	if k.TLSBefore == nil {
		return false, trove.Errorf(trove.KindBadRequest, "There is no change of TLS that could be rolled back.")
	}
	next := k
	next.TLS, next.TLSBefore = *k.TLSBefore, nil
	return false, e.changeTLS(ctx, p, k, next)
}

// UseCertificate implements engine.Certified. Setting a file's name to what it is already makes the server read it again.
func (e *Engine) UseCertificate(ctx context.Context, l engine.Layout, cert, key []byte) error {
	if err := checkPair(cert, key); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.at(l)
	k, err := p.readKept()
	if err != nil {
		return err
	}
	next := k
	next.GivenCert, next.GivenKey = cert, key
	return e.changeTLS(ctx, p, k, next)
}

// changeTLS keeps what is next and tells the running server. What it refuses, such as a key that its library calls too weak, is as if it had not been asked
// for. A server that is down takes it up when it starts.
func (e *Engine) changeTLS(ctx context.Context, p place, before, next kept) error {
	err := e.takeUpTLS(ctx, p, next, stricter(before.TLS, next.TLS))
	if err == nil || trove.KindOf(err) == trove.KindUnavailable {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	if back := e.takeUpTLS(undo, p, before, false); back != nil && trove.KindOf(back) != trove.KindUnavailable {
		return errors.Join(err, fmt.Errorf("go back to the TLS before: %w", back))
	}
	return trove.Wrap(trove.KindBadRequest, err, "The database refuses the certificates.")
}

// stricter reports whether there may be connections that are not to go on.
func stricter(before, next tlsKept) bool {
	return (next.Enforced() || next.Off) && (before.Mode != next.Mode || before.Off != next.Off || !bytes.Equal(before.CA, next.CA))
}

// takeUpTLS keeps it, writes what the server reads and tells the running one. Where connections are to end all of them do: which came how the server does
// not say.
func (e *Engine) takeUpTLS(ctx context.Context, p place, k kept, end bool) error {
	if err := p.writeKept(k); err != nil {
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
	return p.with(ctx, func(c conn) error {
		args := []any{"SET"}
		for _, o := range k.TLS.options(p) {
			args = append(args, o.name, o.value)
		}
		if err := c.run(ctx, "CONFIG", args...); err != nil {
			return fmt.Errorf("change the server's TLS: %w", err)
		}
		if !end {
			return nil
		}
		for _, kind := range []string{"normal", "pubsub"} {
			if err := c.run(ctx, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"); err != nil {
				return fmt.Errorf("end the connections of clients: %w", err)
			}
		}
		return nil
	})
}
