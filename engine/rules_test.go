package engine_test

import (
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/engine"
)

const someRules = `{"configuration-parameters": [
 {"name": "old", "type": "string", "restart_required": false, "before": "11.0"},
 {"name": "new", "type": "integer", "restart_required": true, "min": 1, "max": 2, "since": "11.5"},
 {"name": "moved", "type": "integer", "restart_required": false, "max": 9, "before": "10.11.12"},
 {"name": "moved", "type": "integer", "restart_required": true, "max": 9, "since": "10.11.12"},
 {"name": "always", "type": "boolean", "restart_required": false}]}`

func TestRulesAreForVersions(t *testing.T) {
	rules, err := engine.ParseRules([]byte(someRules))
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{
		"10.11": "always moved old", "10.11.12": "always moved! old", "10.11.19-MariaDB": "always moved! old", "11.0": "always moved!", "11.4.2": "always moved!",
		"11.5": "always moved! new!", "11.8.9": "always moved! new!", "12": "always moved! new!", "": "always moved! new!", "latest": "always moved! new!",
	} {
		var got []string
		for _, p := range rules.For(version) {
			if p.RestartRequired {
				p.Name += "!"
			}
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("version %q: %v, want %s", version, got, want)
		}
	}
}

func TestRulesThatCannotBeRead(t *testing.T) {
	for _, text := range []string{
		`{`, `{"configuration-parameters": [{"name": "a", "type": "string", "since": "old"}]}`, `{"configuration-parameters": [{"name": "a", "until": "1"}]}`,
	} {
		if _, err := engine.ParseRules([]byte(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
