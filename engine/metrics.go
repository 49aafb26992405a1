package engine

import (
	"context"
	"time"
)

// MetricSource is an engine that measures itself. It is optional.
type MetricSource interface {
	// Metrics asks the server for its figures. Names, units and labels are those of the product's usual Prometheus exporter, so that dashboards that are made
	// for it work; docs/drivers says which. Unavailable while the server is down. Bounded: the number of series does not grow with the tenant's data
	// beyond a fixed limit.
	Metrics(ctx context.Context, l Layout) ([]Metric, error)
}

// StatementSource is an engine that counts what its statements cost. It is optional.
type StatementSource interface {
	// Statements returns the statements that took the most time in all since the server counts, at most limit, the costliest first. Their constants are
	// taken out by the server; a statement that it has with constants is left out.
	Statements(ctx context.Context, l Layout, limit int) ([]Statement, error)
}

// Metric is one series' value now.
type Metric struct {
	Name    string
	Help    string
	Counter bool // otherwise a gauge
	Labels  map[string]string
	Value   float64
}

// Statement is what a kind of statement cost since the server counts.
type Statement struct {
	Text     string // with placeholders in place of constants, at most 1024 bytes
	Database string // "" where the product has none
	Calls    int64
	Time     time.Duration // in all
	Rows     int64         // returned or changed
}
