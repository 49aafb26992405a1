package guestagent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
)

const (
	// sampleLife is how long the engine is not asked again for its figures, however many read them.
	sampleLife = 5 * time.Second
	// metricsBytes is how long the figures in an answer may be, well below what the bus takes.
	metricsBytes = 200 << 10
)

// sampler keeps the engine's last figures.
type sampler struct {
	mu       sync.Mutex
	at       time.Time
	families []guestapi.MetricFamily
}

// metrics answers CmdMetrics. The engine is measured when somebody asks and at no other time.
func metrics(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.MetricsArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	source, ok := a.cfg.Engine.(engine.MetricSource)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "This database does not measure itself.")
	}
	s := &a.samples
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil { // it waited for another one
		return nil, err
	}
	if now := a.cfg.Clock.Now(); s.at.IsZero() || now.Sub(s.at) >= sampleLife {
		all, err := source.Metrics(ctx, a.cfg.Layout)
		if err != nil {
			return nil, err
		}
		s.families, s.at = families(all), now
	}
	limit := guestapi.MaxSeries
	if args.Series > 0 {
		limit = min(limit, args.Series)
	}
	return bounded(s.families, limit)
}

// families puts the series of a name together, in the order in which the engine named them. What is no number cannot be sent.
func families(all []engine.Metric) []guestapi.MetricFamily {
	var list []guestapi.MetricFamily
	at := map[string]int{}
	for _, m := range all {
		if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
			continue
		}
		n, known := at[m.Name]
		if !known {
			n = len(list)
			at[m.Name] = n
			list = append(list, guestapi.MetricFamily{Name: m.Name, Help: m.Help, Counter: m.Counter})
		}
		list[n].Series = append(list[n].Series, guestapi.MetricSeries{Labels: m.Labels, Value: m.Value})
	}
	return list
}

// bounded leaves out whole families that are beyond the limits, the largest first: a sum over half a family would be wrong.
func bounded(all []guestapi.MetricFamily, series int) (guestapi.Metrics, error) {
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b guestapi.MetricFamily) int { return cmp.Compare(len(a.Series), len(b.Series)) })
	kept, out, bytes := map[string]bool{}, guestapi.Metrics{Families: []guestapi.MetricFamily{}}, 0
	for n := range order {
		f := &order[n]
		data, err := json.Marshal(f)
		if err != nil {
			return guestapi.Metrics{}, fmt.Errorf("encode the figures: %w", err)
		}
		if !f.Valid() || len(f.Series) > series || bytes+len(data) > metricsBytes {
			out.Left += len(f.Series)
			continue
		}
		series -= len(f.Series)
		bytes += len(data) + 1
		kept[f.Name] = true
	}
	for n := range all {
		if kept[all[n].Name] {
			out.Families = append(out.Families, all[n])
		}
	}
	return out, nil
}

func statements(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.StatementsArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	if args.Limit < 1 || args.Limit > guestapi.MaxStatements {
		return nil, trove.Errorf(trove.KindBadRequest, "The limit must be a number from 1 to %d.", guestapi.MaxStatements)
	}
	source, ok := a.cfg.Engine.(engine.StatementSource)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "This database does not count what its statements cost.")
	}
	all, err := source.Statements(ctx, a.cfg.Layout, args.Limit)
	if err != nil {
		return nil, err
	}
	out := make([]guestapi.Statement, 0, len(all))
	for _, s := range all[:min(len(all), args.Limit)] {
		out = append(out, guestapi.Statement{
			Text: shortened(s.Text, 1024), Database: shortened(s.Database, 256), Calls: s.Calls, Microseconds: s.Time.Microseconds(), Rows: s.Rows,
		})
	}
	return out, nil
}

// shortened cuts a text to so many bytes, between two letters.
func shortened(text string, size int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= size {
		return text
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}

// errNoDrift says that an engine cannot tell.
var errNoDrift = errors.New("the engine does not tell what was changed")

func (a *Agent) differences(ctx context.Context) ([]guestapi.Difference, error) {
	source, ok := a.cfg.Engine.(engine.DriftSource)
	if !ok {
		return nil, trove.Wrap(trove.KindNotImplemented, errNoDrift, "This database does not tell which parameters were changed in it.")
	}
	a.configuring.Lock() // in the middle of a change everything differs
	defer a.configuring.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := source.Drift(ctx, a.cfg.Layout)
	if err != nil {
		return nil, err
	}
	out := make([]guestapi.Difference, 0, len(all))
	for _, d := range all {
		out = append(out, guestapi.Difference{Name: d.Name, Want: shortened(d.Want, 1024), Is: shortened(d.Is, 1024)})
	}
	return out, nil
}

// drift answers CmdDrift.
func drift(ctx context.Context, a *Agent, _ guestapi.Request) (any, error) { return a.differences(ctx) }
