package clockwatch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/clockwatch"
)

// TestAClockThatIsMoved sets the host's clock to and fro against the database's.
func TestAClockThatIsMoved(t *testing.T) {
	host := clock.NewManual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	database := host.Now()
	var failure error
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	w, err := clockwatch.New(clockwatch.Config{
		Database: func(context.Context) (time.Time, error) { return database, failure },
		Clock:    host, Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		move    time.Duration
		stopped bool
		says    string // in the log
	}{
		{0, false, ""},
		{1900 * time.Millisecond, false, ""},
		{200 * time.Millisecond, false, "level=WARN"},
		{time.Second, false, ""}, // said once
		{2 * time.Second, true, "takes no operations until the clock is set right"},
		{-4 * time.Second, false, "agree again"},
		{-7 * time.Second, true, "behind the database's"},
	} {
		host.Add(step.move)
		log.Reset()
		look()
		if w.Stopped() != step.stopped {
			t.Errorf("%s ahead: stopped %v", w.Ahead(), w.Stopped())
		}
		if (step.says == "") != (log.Len() == 0) || !strings.Contains(log.String(), step.says) {
			t.Errorf("%s ahead: the log says %q, want %q", w.Ahead(), log.String(), step.says)
		}
	}
	before := w.Ahead()
	failure = errors.New("away")
	if err := w.Look(t.Context()); err == nil || w.Ahead() != before || !w.Stopped() {
		t.Errorf("a database that is away: %v, %s", err, w.Ahead())
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if got["trove_clock_stopped"] != 1 || got["trove_clock_ahead_seconds"] > -5 {
		t.Errorf("the metrics are %v", got)
	}
}
