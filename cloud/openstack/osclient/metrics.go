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
	bytes    *prometheus.CounterVec
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
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_openstack_answer_bytes_total", Help: "Bytes of the answers of services of OpenStack that were read, without headers.",
		}, []string{"service", "method"}),
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
	if err := reg.Register(m.bytes); err != nil {
		there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			return nil, fmt.Errorf("register the metrics of OpenStack: %w", err)
		}
		m.bytes, _ = there.ExistingCollector.(*prometheus.CounterVec)
	}
	return m, nil
}

// read counts a piece of an answer.
func (m *metrics) read(kind, method string, n int) {
	if m != nil && n > 0 {
		m.bytes.WithLabelValues(services[kind].name, method).Add(float64(n))
	}
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
