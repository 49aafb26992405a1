package fake

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/engine"
)

// The methods that measure and that can be made to fail.
const (
	OpMetrics    Op = "metrics"
	OpStatements Op = "statements"
	OpDrift      Op = "drift"
)

var (
	_ engine.MetricSource    = (*Engine)(nil)
	_ engine.StatementSource = (*Engine)(nil)
	_ engine.DriftSource     = (*Engine)(nil)
)

// Metrics implements engine.MetricSource: how many databases and users there are, and how often each method was called.
func (e *Engine) Metrics(_ context.Context, l engine.Layout) ([]engine.Metric, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, err := e.look(OpMetrics, l)
	if err != nil {
		return nil, err
	}
	all := []engine.Metric{
		{Name: "fake_up", Help: "Whether the server answers.", Value: 1},
		{Name: "fake_databases", Help: "Databases.", Value: float64(len(s.Databases))},
		{Name: "fake_users", Help: "Users.", Value: float64(len(s.Users))},
	}
	for _, op := range []Op{OpPing, OpMetrics} {
		all = append(all, engine.Metric{
			Name: "fake_calls_total", Help: "Calls of the driver, by method.", Counter: true, Labels: map[string]string{"method": string(op)}, Value: float64(e.calls[op]),
		})
	}
	return all, nil
}

// Statements implements engine.StatementSource: one kind of statement for each database.
func (e *Engine) Statements(_ context.Context, l engine.Layout, limit int) ([]engine.Statement, error) {
	s, err := e.view(OpStatements, l)
	if err != nil {
		return nil, err
	}
	var all []engine.Statement
	for n, d := range s.Databases {
		cost := time.Duration(len(s.Databases)-n) * time.Second
		all = append(all, engine.Statement{Text: "SELECT ? FROM things", Database: d.Name, Calls: int64(n + 1), Time: cost, Rows: 1})
	}
	return all[:min(limit, len(all))], nil
}

// Change lets somebody change a parameter of the running server, past Apply. It lasts until the server is given a value, or started again.
func (e *Engine) Change(l engine.Layout, name, value string) error {
	return e.change(OpDrift, l, func(s *state) error {
		if s.Changed == nil {
			s.Changed = map[string]string{}
		}
		s.Changed[name] = value
		return nil
	})
}

// Drift implements engine.DriftSource.
func (e *Engine) Drift(_ context.Context, l engine.Layout) ([]engine.Difference, error) {
	s, err := e.view(OpDrift, l)
	if err != nil {
		return nil, err
	}
	var all []engine.Difference
	for name, is := range s.Changed {
		want := e.Defaults(s.Settings)[name]
		if v, ok := s.Settings.Overrides[name]; ok {
			want = string(v)
		}
		if is != want {
			all = append(all, engine.Difference{Name: name, Want: want, Is: is})
		}
	}
	slices.SortFunc(all, func(a, b engine.Difference) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
