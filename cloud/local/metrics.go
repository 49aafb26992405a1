package local

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the local cloud's figures.
type metrics struct {
	mended *prometheus.CounterVec
	hits   *prometheus.CounterVec
	pool   *prometheus.Desc

	provider *Provider
}

func newMetrics(p *Provider) *metrics {
	return &metrics{
		mended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_local_mended_total", Help: "What was found changed on instances by somebody else and put right, by what it was.",
		}, []string{"what"}),
		// The instance is in the log: labels for each would grow without end.
		hits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_local_limit_hits_total",
			Help: "How often instances ran into a limit: processes killed for want of memory, processes refused because there were too many.",
		}, []string{"limit"}),
		pool: prometheus.NewDesc("trove_pool_bytes", "Space for data volumes, by kind: size, limit (size with overcommit), promised, used, pending "+
			"(promised, to be reserved, not taken yet), spares, left, free and total (of the file system), stop_mark, warn_mark.", []string{"kind"}, nil),
		provider: p,
	}
}

// register registers the figures; two clouds in one registry would be two of the same.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	if err := errors.Join(r.Register(m.mended), r.Register(m.hits), r.Register(m)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Describe is prometheus.Collector.Describe.
func (m *metrics) Describe(c chan<- *prometheus.Desc) { c <- m.pool }

// Collect is prometheus.Collector.Collect: the pool is measured when somebody asks.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	pool, err := m.provider.Pool()
	if err != nil {
		c <- prometheus.NewInvalidMetric(m.pool, err)
		return
	}
	for kind, n := range map[string]int64{
		"size": pool.Size, "limit": pool.Limit(), "promised": pool.Promised, "used": pool.Used, "pending": pool.Pending, "spares": pool.Spares,
		"left": pool.Left, "free": pool.Free, "total": pool.Total, "stop_mark": pool.StopMark, "warn_mark": pool.WarnMark,
	} {
		c <- prometheus.MustNewConstMetric(m.pool, prometheus.GaugeValue, float64(n), kind)
	}
}
