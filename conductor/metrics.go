package conductor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the conductor's figures.
type metrics struct {
	received *prometheus.CounterVec
	dropped  *prometheus.CounterVec
	rows     prometheus.Counter
	flush    prometheus.Histogram
	lower    prometheus.Counter

	kept int // how many states were left when the old ones were dropped
}

func newMetrics() metrics {
	return metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_conductor_reports_total", Help: "Reports of guests that were read, by kind.",
		}, []string{"kind"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_conductor_dropped_total", Help: "Reports of guests that were not written, by reason.",
		}, []string{"reason"}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trove_conductor_rows_total", Help: "Reports of guests that were written; of several heartbeats in a batch only the last is.",
		}),
		lower: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trove_conductor_agent_downgrades_total",
			Help: "Guests that came back with an older version of the agent than before without saying why: an alarm, see docs/operators/agents.md.",
		}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "trove_conductor_flush_seconds", Help: "How long writing a batch of reports took.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .5, 2},
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.received, m.dropped, m.rows, m.flush, m.lower} {
		if err := r.Register(c); err != nil {
			return err //nolint:wrapcheck // New wraps
		}
	}
	return nil
}

func (m *metrics) drop(reason string) { m.dropped.WithLabelValues(reason).Inc() }

func (m *metrics) written(b *batch, took time.Duration) {
	m.rows.Add(float64(b.size()))
	m.flush.Observe(took.Seconds())
}
