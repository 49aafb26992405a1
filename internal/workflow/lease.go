package workflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// errLeaseLost ends the context of a step whose row somebody else may have.
var errLeaseLost = errors.New("the lease on the operation is lost or cannot be renewed")

// lease is the right to work on one row. Each claim has an owner name of its own, so that a row whose fate is unknown after a failed commit is
// renewed by nobody and is due again when its lease ends.
//
//	claimed ── renewed every 0.3 leases ──► … ── end ──► released or closed
//	   │                                       │
//	   └── refused, or 0.8 leases without a good one ──► the step's context ends; nothing more is written
type lease struct {
	engine *Engine
	owner  string
	done   <-chan struct{} // closed when the lease is in danger
	cancel context.CancelFunc
	danger *time.Timer // timers run on the monotonic clock, which no correction of the time moves
	stop   chan struct{}
	still  chan struct{}
}

// newLease starts the renewals of a row that was claimed just now; good is when the claim was sent.
func (e *Engine) newLease(ctx context.Context, owner string) *lease {
	alive, cancel := context.WithCancel(context.WithoutCancel(ctx)) // at shutdown the lease is kept until it is given back
	l := &lease{
		engine: e, owner: owner, done: alive.Done(), cancel: cancel, stop: make(chan struct{}), still: make(chan struct{}),
		danger: time.AfterFunc(e.cfg.Lease*8/10, cancel),
	}
	go l.renewals(alive)
	return l
}

// renewals renews until end, or until the lease is lost.
func (l *lease) renewals(ctx context.Context) {
	defer close(l.still)
	every := l.engine.cfg.Lease * 3 / 10
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		elapsed := clock.Stopwatch() // from before the statement: that is when the lease counts from
		err := l.renew(ctx, every)
		switch {
		case errors.Is(err, store.ErrLost):
			l.cancel()
			return
		case err != nil:
			// the danger timer runs on
			l.engine.cfg.Log.WarnContext(ctx, "lease not renewed", "err", err)
		default:
			l.danger.Reset(l.engine.cfg.Lease*8/10 - elapsed())
		}
	}
}

func (l *lease) renew(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := l.engine.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		n, err := tx.RenewOperations(ctx, l.owner, l.engine.cfg.Clock.Now().Add(l.engine.cfg.Lease))
		if err == nil && n == 0 {
			return store.ErrLost
		}
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("renew the lease %s: %w", l.owner, err)
	}
	return nil
}

// lost reports whether the row may be somebody else's.
func (l *lease) lost() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// end stops the renewals and waits for the one that runs. It gives nothing back.
func (l *lease) end() {
	l.danger.Stop()
	close(l.stop)
	l.cancel()
	<-l.still
}
