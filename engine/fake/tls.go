package fake

import (
	"context"
	"crypto/tls"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// The methods of TLS that can be made to fail.
const (
	OpTLS         Op = "tls"
	OpSetTLS      Op = "set-tls"
	OpRollbackTLS Op = "rollback-tls"

	OpUseCertificate Op = "use-certificate"
)

// OwnCert is what the fake server shows when it was given no certificate: it is one as far as its form goes, and nobody believes it.
const OwnCert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

var (
	_ engine.TLSSource = (*Engine)(nil)
	_ engine.Certified = (*Engine)(nil)
)

// tlsState is how TLS is, and how it was before the last change.
type tlsState struct {
	engine.TLSChange

	Before  *engine.TLSChange `json:"before,omitempty"`
	Service []byte            `json:"service,omitempty"` // the certificate that the service gave
}

// TLS implements engine.TLSSource.
func (e *Engine) TLS(_ context.Context, l engine.Layout) (engine.TLS, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpTLS); err != nil {
		return engine.TLS{}, err
	}
	s, err := read(l)
	if err != nil {
		return engine.TLS{}, err
	}
	now := engine.TLS{On: !s.TLS.Off, Mode: s.TLS.Mode, Cert: s.TLS.Cert}
	if now.Mode == "" {
		now.Mode = engine.TLSBuiltin
	}
	if now.On && len(now.Cert) == 0 {
		now.Cert = s.TLS.Service
	}
	if now.On && len(now.Cert) == 0 {
		now.Cert = []byte(OwnCert)
	}
	return now, nil
}

// SetTLS implements engine.TLSSource: every change of on and off needs a restart. It looks at nothing but what is missing.
func (e *Engine) SetTLS(_ context.Context, l engine.Layout, c engine.TLSChange) (restart bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpSetTLS); err != nil {
		return false, err
	}
	known := c.Mode == engine.TLSBasic || c.Mode == engine.TLSEnforced || c.Mode == engine.TLSMutual
	whole := (len(c.Cert) == 0) == (len(c.Key) == 0) && (c.Mode != engine.TLSMutual || len(c.CA) > 0)
	if c.Off == (c.Mode != "") || !c.Off && !known || !whole || string(c.Cert) == "bad" || string(c.CA) == "bad" {
		return false, trove.Errorf(trove.KindBadRequest, "TLS cannot be like that.")
	}
	s, err := read(l)
	if err != nil {
		return false, err
	}
	before := s.TLS.TLSChange
	s.TLS = tlsState{TLSChange: c, Before: &before, Service: s.TLS.Service}
	return before.Off != c.Off, write(l, s)
}

// RollbackTLS implements engine.TLSSource.
func (e *Engine) RollbackTLS(_ context.Context, l engine.Layout) (restart bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpRollbackTLS); err != nil {
		return false, err
	}
	s, err := read(l)
	if err != nil {
		return false, err
	}
	if s.TLS.Before == nil {
		return false, trove.Errorf(trove.KindBadRequest, "There is no change of TLS that could be rolled back.")
	}
	restart = s.TLS.Before.Off != s.TLS.Off
	s.TLS = tlsState{TLSChange: *s.TLS.Before, Service: s.TLS.Service}
	return restart, write(l, s)
}

// UseCertificate implements engine.Certified.
func (e *Engine) UseCertificate(_ context.Context, l engine.Layout, cert, key []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpUseCertificate); err != nil {
		return err
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The certificate and its key cannot be used.")
	}
	s, err := read(l)
	if err != nil {
		return err
	}
	s.TLS.Service = cert
	return write(l, s)
}
