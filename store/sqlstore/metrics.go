package sqlstore

import "github.com/prometheus/client_golang/prometheus"

// prometheusTimer returns a function that records how long it is since now.
func prometheusTimer(h *prometheus.HistogramVec) func(outcome string) {
	seconds := 0.0
	t := prometheus.NewTimer(prometheus.ObserverFunc(func(v float64) { seconds = v }))
	return func(outcome string) {
		t.ObserveDuration()
		h.WithLabelValues(outcome).Observe(seconds)
	}
}
