// Package clock is the only place that reads the time. Code that needs the time or a timer takes a Clock, so that a test can stop it;
// under testing/synctest System is already a fake one.
//
// A Clock may be used from several goroutines.
package clock

import (
	"context"
	"time"
)

// Clock tells the time.
type Clock interface {
	Now() time.Time
}

// System is the machine's clock.
type System struct{}

// Now returns the current time in UTC, cut to the microsecond that the store keeps, with the monotonic reading dropped.
func (System) Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Stopwatch returns a function that tells how long ago it was made, by the monotonic clock, which no correction of the time moves.
func Stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) } //nolint:forbidigo // this is the place that reads the time
}

// Sleep waits for d or until the context ends, whose error it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Manual is a clock that moves only when told to.
type Manual struct {
	ch chan time.Time
}

// NewManual returns a clock that stands at t.
func NewManual(t time.Time) *Manual {
	m := &Manual{ch: make(chan time.Time, 1)}
	m.ch <- t.UTC().Truncate(time.Microsecond)
	return m
}

// Now returns the time at which the clock stands.
func (m *Manual) Now() time.Time {
	t := <-m.ch
	m.ch <- t
	return t
}

// Add moves the clock.
func (m *Manual) Add(d time.Duration) {
	t := <-m.ch
	m.ch <- t.Add(d)
}
