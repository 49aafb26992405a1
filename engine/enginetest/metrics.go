package enginetest

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

const (
	maxSeries     = 3000 // of one instance
	maxStatements = 5
)

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]{0,127}$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)
)

// measure looks at the figures: that a Prometheus server could read them, that they are bounded, and that there are none of a server that is down.
func measure(t *testing.T, s Setup) {
	e, measures := s.Engine.(engine.MetricSource)
	st, counts := s.Engine.(engine.StatementSource)
	if !measures && !counts {
		return
	}
	ctx, l := t.Context(), s.Layout
	srv := started(t, s)
	if measures {
		for range 2 {
			all, err := e.Metrics(ctx, l)
			must(t, err)
			checkMetrics(t, all)
		}
	}
	if counts {
		all, err := st.Statements(ctx, l, maxStatements)
		must(t, err)
		checkStatements(t, all)
	}
	srv.Stop()
	if measures {
		_, err := e.Metrics(ctx, l)
		wantKind(t, "Metrics of a stopped server", err, trove.KindUnavailable)
	}
	if counts {
		_, err := st.Statements(ctx, l, maxStatements)
		wantKind(t, "Statements of a stopped server", err, trove.KindUnavailable)
	}
}

func checkMetrics(t *testing.T, all []engine.Metric) {
	t.Helper()
	if len(all) == 0 || len(all) > maxSeries {
		t.Errorf("%d series, want 1 to %d", len(all), maxSeries)
	}
	seen, kinds := map[string]bool{}, map[string]string{}
	for _, m := range all {
		labels := make([]string, 0, len(m.Labels))
		for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
			labels = append(labels, fmt.Sprintf("%s=%q", name, m.Labels[name]))
			if !labelName.MatchString(name) || strings.HasPrefix(name, "__") {
				t.Errorf("%s: the label %q is none", m.Name, name)
			}
		}
		id := m.Name + "{" + strings.Join(labels, ",") + "}"
		kind := fmt.Sprint(m.Counter, m.Help)
		switch {
		case !metricName.MatchString(m.Name):
			t.Errorf("%q is no name of a metric", m.Name)
		case seen[id]:
			t.Errorf("%s is there twice", id)
		case m.Help == "":
			t.Errorf("%s has no help", m.Name)
		case kinds[m.Name] != "" && kinds[m.Name] != kind:
			t.Errorf("%s has two kinds or helps", m.Name)
		case m.Counter && (m.Value < 0 || math.IsNaN(m.Value)):
			t.Errorf("the counter %s is %v", id, m.Value)
		}
		seen[id], kinds[m.Name] = true, kind
	}
}

func checkStatements(t *testing.T, all []engine.Statement) {
	t.Helper()
	if len(all) > maxStatements {
		t.Errorf("%d statements, want at most %d", len(all), maxStatements)
	}
	for n, s := range all {
		if s.Text == "" || len(s.Text) > 1024 || s.Calls <= 0 || s.Time < 0 || s.Rows < 0 {
			t.Errorf("statement %+v", s)
		}
		if n > 0 && s.Time > all[n-1].Time {
			t.Errorf("%q took longer than the one before it", s.Text)
		}
	}
}
