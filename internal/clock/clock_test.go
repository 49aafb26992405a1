package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

func TestSystemIsInUTCAndToTheMicrosecond(t *testing.T) {
	now := clock.System{}.Now()
	if now.Location() != time.UTC || now.Nanosecond()%1000 != 0 {
		t.Errorf("now is %v", now)
	}
}

func TestManualMovesOnlyWhenTold(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := clock.NewManual(start)
	if !m.Now().Equal(start) {
		t.Errorf("now is %v", m.Now())
	}
	m.Add(time.Hour)
	if want := start.Add(time.Hour); !m.Now().Equal(want) {
		t.Errorf("now is %v, want %v", m.Now(), want)
	}
}

func TestSleepEndsWithTheTimeOrTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := clock.Sleep(t.Context(), time.Minute); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("slept %v, %v", time.Since(begin), err)
		}
		gone := errors.New("the caller is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if err := clock.Sleep(ctx, time.Hour); !errors.Is(err, gone) {
			t.Errorf("a sleep whose context has ended: %v", err)
		}
	})
}
