package exposition_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/exposition"
)

// TestPrometheusReadsIt parses with Prometheus' own parser, strange labels and all.
func TestPrometheusReadsIt(t *testing.T) {
	strange := "a\\b\"c\nd – ü"
	f := guestapi.MetricFamily{Name: "mysql_up_total", Help: strange, Counter: true, Series: []guestapi.MetricSeries{
		{Labels: map[string]string{"schema": strange, "instance": "own"}, Value: 1.5e300},
		{Labels: map[string]string{"schema": strange, "instance": "own"}, Value: 2},
		{Value: -math.SmallestNonzeroFloat64},
	}}
	text := exposition.Append(nil, &f, exposition.Label{Name: "project", Value: "p"}, exposition.Label{Name: "instance", Value: "i"})
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	got := all["mysql_up_total"]
	if got.GetHelp() != strange || got.GetType().String() != "COUNTER" || len(got.GetMetric()) != 2 {
		t.Fatalf("%v", got)
	}
	labels := map[string]string{}
	for _, l := range got.GetMetric()[0].GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if labels["schema"] != strange || labels["instance"] != "i" || labels["exported_instance"] != "own" || labels["project"] != "p" {
		t.Errorf("labels %q", labels)
	}
	if v := got.GetMetric()[0].GetCounter().GetValue(); v != 1.5e300 {
		t.Errorf("value %v", v)
	}
}
