package trove_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
)

func TestParameterCheck(t *testing.T) {
	whole := trove.Parameter{Name: "n", Type: trove.ParameterInteger, Min: "2", Max: "18446744073709551615"}
	float := trove.Parameter{Name: "n", Type: trove.ParameterFloat, Min: "0"}
	flag := trove.Parameter{Name: "n", Type: trove.ParameterBoolean}
	text := trove.Parameter{Name: "n", Type: trove.ParameterString}
	const (
		wrong = "The value provided for the configuration parameter n is not of type "
		low   = "The value for the configuration parameter n is less than the minimum allowed: "
	)
	for _, c := range []struct {
		rule  trove.Parameter
		value string
		want  string
	}{
		{whole, "2", ""},
		{whole, "18446744073709551615", ""},
		{whole, "18446744073709551616", "The value for the configuration parameter n is greater than the maximum allowed: 18446744073709551615"},
		{whole, "1", low + "2"},
		{whole, "-9", low + "2"},
		{whole, "3.0", wrong + "integer."},
		{whole, "3e0", wrong + "integer."},
		{whole, "true", wrong + "integer."},
		{whole, `"3"`, wrong + "integer."},
		{whole, "null", wrong + "integer."},
		{whole, `{"a":1}`, wrong + "integer."},
		{float, "2.5", ""},
		{float, "2", ""},
		{float, "1e3", ""},
		{float, "-0.5", low + "0"},
		{float, "1e999999999", wrong + "float."},
		{float, `"2.5"`, wrong + "float."},
		{flag, "true", ""},
		{flag, "1", wrong + "boolean."},
		{text, `""`, ""},
		{text, `"a b"`, ""},
		{text, "5", wrong + "string."},
		{text, `"a\nb"`, "The value provided for the configuration parameter n is longer than 1024 bytes or has characters that are not allowed."},
	} {
		got := ""
		if err := c.rule.Check(json.RawMessage(c.value)); err != nil {
			got = trove.MessageOf(err)
			if trove.KindOf(err) != trove.KindUnprocessable {
				t.Errorf("%s %s: kind %v", c.rule.Type, c.value, trove.KindOf(err))
			}
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.rule.Type, c.value, got, c.want)
		}
	}
}

func TestWithReplacesUnderEverySpelling(t *testing.T) {
	c := trove.Configuration{Values: map[string]json.RawMessage{"Max_Connections": json.RawMessage("1"), "b": json.RawMessage("2")}}
	got := c.With(map[string]json.RawMessage{"max_connections": json.RawMessage("3"), "c": json.RawMessage("4")})
	want := map[string]json.RawMessage{"max_connections": json.RawMessage("3"), "b": json.RawMessage("2"), "c": json.RawMessage("4")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(c.Values) != 2 || string(c.Values["Max_Connections"]) != "1" {
		t.Errorf("With has changed the group: %v", c.Values)
	}
}

func TestMergeKeepsWhatAdministratorsWrote(t *testing.T) {
	have := []trove.Parameter{
		{Name: "gone", Type: trove.ParameterString},
		{Name: "mine", Type: trove.ParameterInteger, Max: "5", Custom: true},
		{Name: "removed", Custom: true, Deleted: true},
		{Name: "same", Max: "1"},
	}
	driver := []trove.Parameter{{Name: "same", Max: "2"}, {Name: "removed"}, {Name: "MINE", Max: "9"}, {Name: "added"}}
	want := []trove.Parameter{{Name: "added"}, have[1], have[2], {Name: "same", Max: "2"}}
	if diff := cmp.Diff(want, trove.MergeParameters(have, driver)); diff != "" {
		t.Error(diff)
	}
}
