package workflow

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/store"
)

type metrics struct {
	steps      *prometheus.CounterVec
	took       *prometheus.HistogramVec
	running    prometheus.Gauge
	lostClaims prometheus.Counter
	closed     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, st store.Store) (*metrics, error) {
	m := &metrics{
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_workflow_steps_total", Help: "Steps that ran, by what they said.",
		}, []string{"kind", "step", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trove_workflow_step_seconds", Help: "Time that one run of a step took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"kind", "step"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trove_workflow_running_operations", Help: "Operations that this process works on now.",
		}),
		lostClaims: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trove_workflow_lost_claims_total", Help: "Claims that another worker won.",
		}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_workflow_closed_total", Help: "Operations that ended, by their state.",
		}, []string{"kind", "state"}),
	}
	if reg == nil {
		return m, nil
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trove_workflow_open_operations", Help: "Operations that are open in the store, all processes together.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		n, err := st.CountOpenOperations(ctx)
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	})
	err := errors.Join(reg.Register(m.steps), reg.Register(m.took), reg.Register(m.running), reg.Register(m.lostClaims), reg.Register(m.closed),
		reg.Register(open))
	if err != nil {
		return nil, fmt.Errorf("register the metrics of operations: %w", err)
	}
	return m, nil
}
