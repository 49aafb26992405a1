package guestagent

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
)

// tlsSource returns the engine as one whose TLS can be changed.
func (a *Agent) tlsSource() (engine.TLSSource, error) {
	s, ok := a.cfg.Engine.(engine.TLSSource)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "Not supported: the TLS of this database cannot be changed.")
	}
	return s, nil
}

// showTLS answers CmdShowTLS. The engine need not be up.
func showTLS(ctx context.Context, a *Agent, _ guestapi.Request) (any, error) {
	s, err := a.tlsSource()
	if err != nil {
		return nil, err
	}
	now, err := s.TLS(ctx, a.cfg.Layout)
	if err != nil {
		return nil, fmt.Errorf("look at TLS: %w", err)
	}
	return guestapi.TLSState{On: now.On, Mode: string(now.Mode), Cert: string(now.Cert)}, nil
}

// setTLS answers CmdSetTLS.
func setTLS(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	s, err := a.tlsSource()
	if err != nil {
		return nil, err
	}
	var args guestapi.SetTLSArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	change := engine.TLSChange{Off: args.Off, Mode: engine.TLSMode(args.Mode), Cert: []byte(args.Cert), Key: []byte(args.Key), CA: []byte(args.CA)}
	restart, err := s.SetTLS(ctx, a.cfg.Layout, change)
	return guestapi.TLSChanged{Restart: restart}, err
}

// rollbackTLS answers CmdRollbackTLS.
func rollbackTLS(ctx context.Context, a *Agent, _ guestapi.Request) (any, error) {
	s, err := a.tlsSource()
	if err != nil {
		return nil, err
	}
	restart, err := s.RollbackTLS(ctx, a.cfg.Layout)
	return guestapi.TLSChanged{Restart: restart}, err
}

// enforceTLS lets nobody in without TLS, before the first start.
func (a *Agent) enforceTLS(ctx context.Context) error {
	s, err := a.tlsSource()
	if err != nil {
		return err
	}
	if _, err := s.SetTLS(ctx, a.cfg.Layout, engine.TLSChange{Mode: engine.TLSEnforced}); err != nil {
		return fmt.Errorf("let in clients with TLS alone: %w", err)
	}
	return nil
}
