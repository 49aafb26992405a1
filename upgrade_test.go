package trove_test

import (
	"encoding/json"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
)

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"10.11", "11.8", -1},
		{"11.8", "10.11", 1},
		{"10.6", "10.11", -1},
		{"9", "10", -1},
		{"10.11", "10.11.14", 0},
		{"10.11.2", "10.11.14", -1},
		{"17", "17", 0},
		{"17.6", "18", -1},
		{"8.0.x", "8.0.y", -1},
		{"8.0.y", "8.0.1", 1},
		{"", "", 0},
	} {
		if got := trove.CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestUnfitOverride(t *testing.T) {
	rules := []trove.Parameter{{Name: "max_connections", Type: trove.ParameterInteger, Min: "1", Max: "100"}}
	for values, want := range map[string]string{
		`{"max_connections":5}`: "", `{}`: "", `{"max_connections":101}`: "greater than the maximum", `{"query_cache":1}`: "query_cache does not exist",
	} {
		var overrides map[string]json.RawMessage
		if err := json.Unmarshal([]byte(values), &overrides); err != nil {
			t.Fatal(err)
		}
		if err := trove.UnfitOverride(rules, overrides); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
}
