package guestfiles_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

func TestValue(t *testing.T) {
	words := guestfiles.Words{Yes: "on", No: "off", Bad: unicode.IsControl}
	for raw, want := range map[string]string{
		`true`: "on", `false`: "off", `12345678901234567890`: "12345678901234567890", `0.5`: "0.5", `"a text"`: "a text", `""`: "",
		`"` + strings.Repeat("x", trove.MaxParameterText) + `"`: strings.Repeat("x", trove.MaxParameterText),
	} {
		if got, err := words.Value(json.RawMessage(raw)); err != nil || got != want {
			t.Errorf("the value of %s is %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{``, `{`, `null`, `[1]`, `{"a": 1}`, `"two\nlines"`, `"` + strings.Repeat("x", trove.MaxParameterText+1) + `"`} {
		if got, err := words.Value(json.RawMessage(raw)); err == nil {
			t.Errorf("%s is the value %q", raw, got)
		}
	}
}
