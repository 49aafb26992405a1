package postgresql

import (
	_ "embed" // the rules
	"strconv"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// rulesFile has the form of Trove's validation rules, and for which versions each is.
//
//go:embed parameters.json
var rulesFile []byte

var rules = sync.OnceValue(func() engine.Rules {
	all, err := engine.ParseRules(rulesFile)
	if err != nil {
		return nil // a test reads the file
	}
	return all
})

// Parameters implements engine.Configurable. TestRulesAreThoseOfTheServer compares the rules of its version with the server.
func (*Engine) Parameters() []trove.Parameter { return rules().For("") }

// ParametersOf implements engine.VersionedRules.
func (*Engine) ParametersOf(version string) []trove.Parameter { return rules().For(version) }

// Defaults implements engine.Configurable.
func (*Engine) Defaults(s engine.Settings) map[string]string {
	out := map[string]string{"port": strconv.Itoa(port), "password_encryption": "scram-sha-256", "huge_pages": "off", "fsync": "on"} //nolint:gosec // a method of keeping passwords is none
	for _, o := range derived(s) {
		out[o.name] = o.value
	}
	return out
}
