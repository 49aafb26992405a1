package guestapi

import (
	"context"
	"math"
	"regexp"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// The short commands for figures, which came after the first release.
const (
	CmdMetrics    Command = "metrics"    // MetricsArgs → Metrics
	CmdStatements Command = "statements" // StatementsArgs → []Statement
	CmdDrift      Command = "drift"      // → []Difference
)

// MaxSeries is how many series a guest gives at most, and MaxStatements how many statements.
const (
	MaxSeries     = 3000
	MaxStatements = 100
)

// MetricsArgs ask for at most so many series; 0: as many as there may be.
type MetricsArgs struct {
	Series int `json:"series,omitempty"`
}

// Metrics are the engine's figures.
type Metrics struct {
	Families []MetricFamily `json:"families"`
	Left     int            `json:"left,omitempty"` // series that were left out: there were too many, or they were too long
}

// MetricFamily are the series of one name.
type MetricFamily struct {
	Name    string         `json:"n"`
	Help    string         `json:"h,omitempty"`
	Counter bool           `json:"c,omitempty"` // otherwise a gauge
	Series  []MetricSeries `json:"s"`
}

// MetricSeries is one series' value now.
type MetricSeries struct {
	Labels map[string]string `json:"l,omitempty"`
	Value  float64           `json:"v"`
}

// StatementsArgs ask for the costliest statements.
type StatementsArgs struct {
	Limit int `json:"limit"`
}

// Statement is what a kind of statement cost since the engine counts.
type Statement struct {
	Text         string `json:"text"`
	Database     string `json:"database,omitempty"`
	Calls        int64  `json:"calls"`
	Microseconds int64  `json:"us"`
	Rows         int64  `json:"rows"`
}

// Time is how long the statement took in all.
func (s Statement) Time() time.Duration { return time.Duration(s.Microseconds) * time.Microsecond }

// Difference is a parameter whose value in the running engine is another one than it was given.
type Difference struct {
	Name string `json:"name"`
	Want string `json:"want"`
	Is   string `json:"is"`
}

// Limits on what a guest may say of figures.
const (
	maxLabels     = 12
	maxLabelBytes = 256
	maxHelp       = 512
	maxStatement  = 1024
)

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]{0,127}$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)
)

// Valid reports whether a family may be shown: a guest is a tenant's machine, and its series stand beside those of others.
func (f *MetricFamily) Valid() bool {
	if !metricName.MatchString(f.Name) || len(f.Help) > maxHelp {
		return false
	}
	for _, s := range f.Series {
		if len(s.Labels) > maxLabels || math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
			return false
		}
		for name, value := range s.Labels {
			if !labelName.MatchString(name) || name[0] == '_' && len(name) > 1 && name[1] == '_' || len(value) > maxLabelBytes {
				return false
			}
		}
	}
	return true
}

// Metrics asks the engine for its figures, Unavailable while it is down. A family that no agent sends is left out, and counted.
func (c *Client) Metrics(ctx context.Context, instance string, args MetricsArgs) (Metrics, error) {
	var all Metrics
	if err := c.short(ctx, instance, CmdMetrics, args, &all); err != nil {
		return Metrics{}, err
	}
	limit := MaxSeries
	if args.Series > 0 {
		limit = min(limit, args.Series)
	}
	good := all.Families[:0]
	seen := map[string]bool{}
	left := max(0, all.Left)
	for _, f := range all.Families {
		if seen[f.Name] || !f.Valid() || len(f.Series) > limit {
			left += len(f.Series)
			continue
		}
		seen[f.Name] = true
		limit -= len(f.Series)
		f.Help = CleanText(f.Help)
		for _, s := range f.Series {
			for name, value := range s.Labels {
				s.Labels[name] = CleanText(value)
			}
		}
		good = append(good, f)
	}
	return Metrics{Families: good, Left: left}, nil
}

// Statements returns the statements that took the most time, the costliest first; NotImplemented if the engine does not count them.
func (c *Client) Statements(ctx context.Context, instance string, args StatementsArgs) ([]Statement, error) {
	var all []Statement
	if err := c.short(ctx, instance, CmdStatements, args, &all); err != nil {
		return nil, err
	}
	bad := len(all) > MaxStatements
	for n := range all {
		s := &all[n]
		bad = bad || len(s.Text) > maxStatement || len(s.Database) > maxLabelBytes || s.Calls < 0 || s.Microseconds < 0 || s.Rows < 0
		s.Text, s.Database = CleanText(s.Text), CleanText(s.Database)
	}
	if bad {
		return nil, trove.Errorf(trove.KindInternal, "The guest reported statements that are none.")
	}
	return all, nil
}

// Drift returns what somebody changed in the running engine, ordered by name; NotImplemented if the engine cannot tell.
func (c *Client) Drift(ctx context.Context, instance string) ([]Difference, error) {
	var all []Difference
	if err := c.short(ctx, instance, CmdDrift, nil, &all); err != nil {
		return nil, err
	}
	bad := len(all) > maxParameters
	for n := range all {
		d := &all[n]
		bad = bad || !visible(d.Name, maxOpID) || len(d.Want) > maxText || len(d.Is) > maxText
		d.Want, d.Is = CleanText(d.Want), CleanText(d.Is)
	}
	if bad {
		return nil, trove.Errorf(trove.KindInternal, "The guest reported differences that are none.")
	}
	return all, nil
}
