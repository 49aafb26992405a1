// Package exposition writes figures in Prometheus' text format, version 0.0.4.
package exposition

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/guestapi"
)

// ContentType is what the text is served as.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Label is one that every series gets.
type Label struct{ Name, Value string }

// AppendHead appends the lines about a family that come before its series.
func AppendHead(b []byte, name, help string, counter bool) []byte {
	kind := "gauge"
	if counter {
		kind = "counter"
	}
	b = append(b, "# HELP "+name+" "+escapedHelp.Replace(help)+"\n# TYPE "+name+" "+kind+"\n"...)
	return b
}

// AppendSeries appends the series of a family, each once: of two with the same labels the first. A label that is named like a common one is called
// exported_ and its name, as Prometheus does.
func AppendSeries(b []byte, f *guestapi.MetricFamily, common ...Label) []byte {
	seen := make(map[string]bool, len(f.Series))
	var key []byte
	for _, s := range f.Series {
		key = appendLabels(key[:0], s.Labels, common)
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		b = append(b, f.Name...)
		b = append(b, key...)
		b = append(b, ' ')
		b = strconv.AppendFloat(b, s.Value, 'g', -1, 64)
		b = append(b, '\n')
	}
	return b
}

// Append appends a whole family.
func Append(b []byte, f *guestapi.MetricFamily, common ...Label) []byte {
	return AppendSeries(AppendHead(b, f.Name, f.Help, f.Counter), f, common...)
}

func appendLabels(b []byte, labels map[string]string, common []Label) []byte {
	if len(labels)+len(common) == 0 {
		return b
	}
	open := byte('{')
	add := func(name, value string) {
		b = append(b, open)
		b = append(b, name+`="`+escapedValue.Replace(value)+`"`...)
		open = ','
	}
	for _, c := range common {
		add(c.Name, c.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		shown := name
		if slices.ContainsFunc(common, func(c Label) bool { return c.Name == name }) {
			shown = "exported_" + name
			if _, taken := labels[shown]; taken {
				continue
			}
		}
		add(shown, labels[name])
	}
	return append(b, '}')
}

var (
	escapedHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapedValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)
