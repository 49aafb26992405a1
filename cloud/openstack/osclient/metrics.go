package osclient

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what OpenStack was asked. The nil value counts nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// newMetrics registers the metrics, or takes those that another session of the process has registered.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		return nil, nil //nolint:nilnil // the nil value counts nothing
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_openstack_requests_total", Help: "Requests to services of OpenStack, by service, method and status of the answer; none without an answer.",
		}, []string{"service", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trove_openstack_request_seconds", Help: "How long a service of OpenStack took to answer.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"service"}),
	}
	if err := reg.Register(m.requests); err != nil {
		there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			return nil, fmt.Errorf("register the metrics of OpenStack: %w", err)
		}
		m.requests, _ = there.ExistingCollector.(*prometheus.CounterVec)
	}
	if err := reg.Register(m.seconds); err != nil {
		there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			return nil, fmt.Errorf("register the metrics of OpenStack: %w", err)
		}
		m.seconds, _ = there.ExistingCollector.(*prometheus.HistogramVec)
	}
	return m, nil
}

func (m *metrics) observe(kind, method string, status int, took time.Duration) {
	if m == nil {
		return
	}
	text := "none"
	if status != 0 {
		text = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(services[kind].name, method, text).Inc()
	m.seconds.WithLabelValues(services[kind].name).Observe(took.Seconds())
}
