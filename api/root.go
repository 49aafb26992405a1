package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// rootName is the superuser's name where the datastore version says no other.
const rootName = "root"

// showRoot answers from the history, but as in Trove only while the database runs.
func (s *server) showRoot(ctx context.Context, c *call) (any, error) {
	if _, err := s.guestRules(ctx, c, "root", hasRoot); err != nil {
		return nil, err
	}
	h, err := s.cfg.Store.RootHistory(ctx, c.instance.ID)
	if err != nil && !trove.IsNotFound(err) {
		return nil, fmt.Errorf("read the root history: %w", err)
	}
	return &wire.RootEnabled{RootEnabled: err == nil && h.Disabled.IsZero()}, nil
}

func (s *server) enableRoot(ctx context.Context, c *call) (any, error) {
	rules, err := s.guestRules(ctx, c, "root", hasRoot)
	if err != nil {
		return nil, err
	}
	password := c.body.str("password")
	if password == "" {
		password = rand.Text()
	}
	if err := s.cfg.Guests.EnableRoot(ctx, c.instance.ID, trove.Secret(password)); err != nil {
		return nil, err
	}
	out := &wire.RootBody{User: wire.RootUser{Name: cmp.Or(rules.caps.RootName, rootName), Password: password}}
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SetRootHistory(ctx, trove.RootHistory{
			InstanceID: c.instance.ID, UserID: c.caller.UserID, Enabled: s.cfg.Clock.Now(),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("write the root history: %w", err)
	}
	return out, nil
}

// disableRoot may be repeated once root has been enabled at any time.
func (s *server) disableRoot(ctx context.Context, c *call) (any, error) {
	if _, err := s.guestRules(ctx, c, "root", hasRoot); err != nil {
		return nil, err
	}
	h, err := s.cfg.Store.RootHistory(ctx, c.instance.ID)
	if trove.IsNotFound(err) {
		return nil, trove.Errorf(trove.KindNotFound, "Root user has never been enabled on the instance.")
	}
	if err != nil {
		return nil, fmt.Errorf("read the root history: %w", err)
	}
	if err := s.cfg.Guests.DisableRoot(ctx, c.instance.ID); err != nil {
		return nil, err
	}
	h.Disabled = s.cfg.Clock.Now()
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SetRootHistory(ctx, h)
	})
	if err != nil {
		return nil, fmt.Errorf("write the root history: %w", err)
	}
	return nil, nil
}
