package app

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/internal/clock"
)

// exportRetry is when an export is tried again that failed.
const exportRetry = 5 * time.Minute

// exporter writes an export now and then. When the last one is due follows from the names in the directory, so that one that was missed while the service
// did not run is made up for, once.
type exporter struct {
	c          *controllers
	deployment string
	last       prometheus.Gauge
	failures   prometheus.Counter
}

// scheduled reports whether exports are written by this process.
func (c *controllers) scheduled() bool {
	return c.runs.Taskmanager && c.cfg.Recovery.ExportDir != "" && c.cfg.Recovery.Interval > 0
}

// exports runs the exporter until ctx ends.
func (c *controllers) exports(ctx context.Context) error {
	e := exporter{
		c: c,
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trove_export_last_success_timestamp_seconds", Help: "When the newest export was made, in seconds since 1970; 0 if there is none.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "trove_export_failures_total", Help: "Exports that could not be written."}),
	}
	c.metrics.MustRegister(e.last, e.failures)
	var err error
	if e.deployment, err = deploymentHash(c.cfg.State); err != nil {
		return err
	}
	for {
		wait := e.due(ctx)
		if wait <= 0 {
			wait = e.once(ctx)
		}
		if err := clock.Sleep(ctx, wait); err != nil {
			return nil //nolint:nilerr // the end of the service is none of the exporter's faults
		}
	}
}

// due returns how long it is until the next export, at most the interval; a clock that was set back must not stop them.
func (e *exporter) due(ctx context.Context) time.Duration {
	names, err := exportsOf(e.c.cfg.Recovery.ExportDir, e.deployment)
	if err != nil {
		e.failed(ctx, err)
		return exportRetry
	}
	if len(names) == 0 {
		return 0
	}
	newest := exportTime(names[len(names)-1], e.deployment)
	e.last.Set(float64(newest.Unix()))
	return min(newest.Add(e.c.cfg.Recovery.Interval).Sub(e.c.clock.Now()), e.c.cfg.Recovery.Interval)
}

// once writes an export, removes those that are too many, and returns when to look again.
func (e *exporter) once(ctx context.Context) time.Duration {
	took := clock.Stopwatch()
	path, m, err := Export(ctx, e.c.cfg, ExportRequest{})
	if err != nil {
		e.failed(ctx, err)
		return min(exportRetry, e.c.cfg.Recovery.Interval)
	}
	e.last.Set(float64(m.CreatedAt.Unix()))
	e.c.log.InfoContext(ctx, "export was written", "file", path, "parts", len(m.Parts), "took", took())
	if err := e.prune(); err != nil {
		e.c.log.WarnContext(ctx, "old exports were not removed", "err", err)
	}
	return time.Second // what is due next is read from the directory
}

func (e *exporter) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	e.failures.Inc()
	e.c.log.ErrorContext(ctx, "export was not written", "err", err)
}

func (e *exporter) prune() error {
	names, err := exportsOf(e.c.cfg.Recovery.ExportDir, e.deployment)
	if err != nil || e.c.cfg.Recovery.Keep == 0 {
		return err
	}
	for len(names) > e.c.cfg.Recovery.Keep {
		if err := os.Remove(filepath.Join(e.c.cfg.Recovery.ExportDir, names[0])); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}
