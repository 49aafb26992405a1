package postgresql

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
)

const reloadPoll = 5 * time.Millisecond

// reload tells the server to read its files again and waits until it has: the postmaster reads them first and tells the sessions then, this one too.
func (c conn) reload(ctx context.Context) error {
	before, _, err := c.one(ctx, "SELECT pg_conf_load_time()::text")
	if err != nil {
		return fmt.Errorf("ask when the server read its settings: %w", err)
	}
	if err := c.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("tell the server to read its settings: %w", err)
	}
	for {
		now, _, err := c.one(ctx, "SELECT pg_conf_load_time()::text")
		if err != nil {
			return fmt.Errorf("ask when the server read its settings: %w", err)
		}
		if now != before {
			return nil
		}
		if err := clock.Sleep(ctx, reloadPoll); err != nil {
			return fmt.Errorf("wait for the server to read its settings: %w", err)
		}
	}
}

// reread writes the files of a prepared server and lets the running one read them; one that is down reads them when it starts.
func (p place) reread(ctx context.Context, k kept) error {
	there, err := guestfiles.Exists(p.runtime())
	if err != nil || !there { // of a guest that has just booted
		return err
	}
	if err := p.writeConfig(k); err != nil {
		return err
	}
	first, err := guestfiles.Exists(p.expectFile())
	if err != nil {
		return err
	}
	if err := p.writeAccess(k.TLS, first); err != nil {
		return err
	}
	err = p.with(ctx, adminDB, func(c conn) error { return c.reload(ctx) })
	if trove.KindOf(err) == trove.KindUnavailable {
		return nil
	}
	return err
}
