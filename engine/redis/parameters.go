package redis

import (
	_ "embed" // the rules
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// rulesFile has the form of Trove's validation rules.
//
//go:embed parameters.json
var rulesFile []byte

var parameterRules = sync.OnceValue(func() []trove.Parameter {
	var file struct {
		Parameters []trove.Parameter `json:"configuration-parameters"`
	}
	if err := json.Unmarshal(rulesFile, &file); err != nil {
		return nil // a test reads the file
	}
	slices.SortFunc(file.Parameters, func(a, b trove.Parameter) int { return strings.Compare(a.Name, b.Name) })
	return file.Parameters
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
