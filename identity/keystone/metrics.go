package keystone

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
)

// metrics counts what Keystone was asked and what it was not. The nil value counts nothing.
type metrics struct {
	seconds *prometheus.HistogramVec
	hits    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		return nil, nil //nolint:nilnil // the nil value counts nothing
	}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trove_keystone_validation_seconds", Help: "How long Keystone took to check a token, by outcome: valid, invalid, unavailable.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"outcome"}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trove_keystone_cache_hits_total", Help: "Tokens that were known, valid or not, without asking Keystone.",
		}),
	}
	for _, c := range []prometheus.Collector{m.seconds, m.hits} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of Keystone: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) hit() {
	if m != nil {
		m.hits.Inc()
	}
}

func (m *metrics) observe(err error, took time.Duration) {
	if m == nil {
		return
	}
	outcome := "valid"
	switch {
	case err != nil && trove.KindOf(err) == trove.KindUnauthorized:
		outcome = "invalid"
	case err != nil:
		outcome = "unavailable"
	}
	m.seconds.WithLabelValues(outcome).Observe(took.Seconds())
}
