package redis

import (
	_ "embed" // the rules
	"slices"
	"strconv"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// rulesFile has the form of Trove's validation rules.
//
//go:embed parameters.json
var rulesFile []byte

var parameterRules = sync.OnceValue(func() []trove.Parameter {
	rules, err := engine.ParseRules(rulesFile)
	if err != nil {
		return nil // a test reads the file
	}
	return rules.For("")
})

// Parameters implements engine.Configurable. The rules are those that hold in every version of both products; TestRulesAreThoseOfTheServer compares them
// with the server.
func (*Engine) Parameters() []trove.Parameter { return slices.Clone(parameterRules()) }

// Defaults implements engine.Configurable.
func (*Engine) Defaults(s engine.Settings) map[string]string {
	out := map[string]string{"port": strconv.Itoa(port), "tls-port": strconv.Itoa(tlsPort), "appendonly": "yes", "protected-mode": "yes"}
	for _, o := range derived(s) {
		out[o.name] = o.value
	}
	return out
}
