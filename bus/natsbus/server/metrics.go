package server

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of the broker; all work without a registry.
type metrics struct {
	registry  prometheus.Registerer
	all       []prometheus.Collector // those that are registered
	kicks     *prometheus.CounterVec
	enrolment *prometheus.CounterVec
	refused   *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, s *Server) *metrics {
	m := &metrics{
		registry: registry,
		kicks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_bus_kicks_total", Help: "Connections of guests that a guard cut, by reason.",
		}, []string{"reason"}),
		enrolment: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_bus_enrolment_requests_total",
			Help: "Requests to the enrolment endpoint by outcome. token_reused is an alarm: a token was used by a second key.",
		}, []string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_bus_refusals_total", Help: "What clients did and the broker refused, by reason: a subject, an identity, a limit.",
		}, []string{"reason"}),
	}
	connections := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trove_bus_connections", Help: "Connections to the broker, those of this process included.",
	}, func() float64 {
		if s.broker == nil {
			return 0
		}
		return float64(s.broker.NumClients())
	})
	dropped := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trove_bus_dropped_messages", Help: "Messages lost because handlers in this process were too slow.",
	}, s.dropped)
	slow := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "trove_bus_slow_consumers_total", Help: "Connections that the broker cut because they did not take what was sent to them; what waited for them was lost.",
	}, func() float64 {
		if s.broker == nil {
			return 0
		}
		return float64(s.broker.NumSlowConsumers())
	})
	if registry == nil {
		return m
	}
	for _, c := range []prometheus.Collector{m.kicks, m.enrolment, m.refused, connections, dropped, slow} {
		if err := registry.Register(c); err != nil {
			s.log.Error("metric could not be registered", "err", err)
			continue
		}
		m.all = append(m.all, c)
	}
	return m
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}
