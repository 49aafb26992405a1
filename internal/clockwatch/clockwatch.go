// Package clockwatch compares the clock of this host with that of the database that controllers of several hosts share. Leases and deadlines are times of the
// controllers: one whose clock is ahead takes what belongs to others, one whose clock is behind leaves lying what is due.
//
// A Watch may be used from several goroutines.
package clockwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/internal/clock"
)

// Warns is the difference from which on people are told, Stops the one from which on no operation is taken.
const (
	Warns = 2 * time.Second
	Stops = 5 * time.Second
)

const (
	every = time.Minute
	// again is how soon a clock is looked at again that is too far away, or could not be compared: it may have been set right.
	again = 5 * time.Second
	// looks is how many comparisons one look makes; the quickest answer counts.
	looks   = 3
	timeout = 5 * time.Second
)

// Config is what a Watch needs; Metrics may be nil.
type Config struct {
	Database func(ctx context.Context) (time.Time, error) // what the database's clock says
	Clock    clock.Clock
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Watch knows how far this host's clock is from the database's.
type Watch struct {
	cfg   Config
	ahead atomic.Int64
	level atomic.Int32
}

// New makes a Watch that knows of no difference yet.
func New(c Config) (*Watch, error) {
	w := &Watch{cfg: c}
	if c.Metrics == nil {
		return w, nil
	}
	stopped := func() float64 {
		if w.Stopped() {
			return 1
		}
		return 0
	}
	err := errors.Join(
		c.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trove_clock_ahead_seconds", Help: "How far this host's clock was ahead of the database's at the last comparison.",
		}, func() float64 { return w.Ahead().Seconds() })),
		c.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trove_clock_stopped", Help: "1 while this process takes no operations because its host's clock is too far from the database's.",
		}, stopped)))
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the clock: %w", err)
	}
	return w, nil
}

// Ahead is how far this host's clock was ahead of the database's at the last comparison; what is below nothing is behind.
func (w *Watch) Ahead() time.Duration { return time.Duration(w.ahead.Load()) }

// Stopped says whether the difference is so large that no operation may be taken.
func (w *Watch) Stopped() bool { return w.Ahead().Abs() > Stops }

// Sentence says what is wrong with a clock that is ahead by this much, "" if nothing is.
func Sentence(ahead time.Duration) string {
	where := "ahead of"
	if ahead < 0 {
		where = "behind"
	}
	switch d := ahead.Abs(); {
	case d > Stops:
		return fmt.Sprintf("The clock of the host is %s %s the database's: it takes no operations until the clock is set right.", d.Round(100*time.Millisecond), where)
	case d > Warns:
		return fmt.Sprintf("The clock of the host is %s %s the database's; above %s it takes no operations.", d.Round(100*time.Millisecond), where, Stops)
	}
	return ""
}

// Look compares the clocks now. An error leaves what was known.
func (w *Watch) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	best := time.Duration(-1)
	var ahead time.Duration
	for range looks {
		begun, took := w.cfg.Clock.Now(), clock.Stopwatch()
		at, err := w.cfg.Database(ctx)
		if err != nil {
			return fmt.Errorf("ask the database what time it is: %w", err)
		}
		// The database looked at its clock at some moment while it was asked; the middle is wrong by half of that at most.
		if t := took(); best < 0 || t < best {
			best, ahead = t, begun.Add(t/2).Sub(at)
		}
	}
	w.ahead.Store(int64(ahead))
	w.tell(ctx, ahead)
	return nil
}

// tell says when something has become better or worse.
func (w *Watch) tell(ctx context.Context, ahead time.Duration) {
	level := int32(0)
	switch d := ahead.Abs(); {
	case d > Stops:
		level = 2
	case d > Warns:
		level = 1
	}
	switch before := w.level.Swap(level); {
	case before == level:
	case level == 0:
		w.cfg.Log.InfoContext(ctx, "the clocks of this host and the database agree again", "ahead", ahead)
	case level == 1:
		w.cfg.Log.WarnContext(ctx, Sentence(ahead), "ahead", ahead)
	default:
		w.cfg.Log.ErrorContext(ctx, Sentence(ahead), "ahead", ahead)
	}
}

// Run compares the clocks regularly until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	failed := false
	pause := func() time.Duration {
		if failed || w.Stopped() {
			return again
		}
		return every
	}
	for clock.Sleep(ctx, pause()) == nil {
		err := w.Look(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			w.cfg.Log.WarnContext(ctx, "the clocks of this host and the database could not be compared", "err", err)
		}
		failed = err != nil
	}
	return nil
}
