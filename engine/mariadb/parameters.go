package mariadb

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

var rules = sync.OnceValue(func() engine.Rules {
	all, err := engine.ParseRules(rulesFile)
	if err != nil {
		return nil // a test reads the file
	}
	return all
})

// Parameters implements engine.Configurable. The rules are those of MariaDB 10.11 and 11.8: every one of Trove's that the server knows and a user may set,
// with the limits that the server has, and more. TestRulesAreThoseOfTheServer compares them with it.
func (*Engine) Parameters() []trove.Parameter { return rules().For("") }

// ParametersOf implements engine.VersionedRules.
func (*Engine) ParametersOf(version string) []trove.Parameter { return rules().For(version) }

// Defaults implements engine.Configurable.
func (*Engine) Defaults(s engine.Settings) map[string]string {
	out := map[string]string{"port": strconv.Itoa(port), "skip_name_resolve": "ON", "symbolic_links": "OFF", "log_output": "FILE"}
	for _, o := range derived(s) {
		out[o.name] = o.value
	}
	return out
}

// variablesOnly are parameters that are no options of the program: each start sets them by a statement, from the init file. As an option some would
// be taken for the beginning of another one: character_set_client for character_set_client_handshake.
var variablesOnly = []string{
	"character_set_client", "character_set_connection", "character_set_database", "character_set_results", "collation_connection", "collation_database",
	"time_zone", "tx_isolation",
}

func isVariable(name string) bool { return slices.Contains(variablesOnly, name) }

// startsOnly are variables that can be set while the server runs, but not to every value that it could start with.
var startsOnly = []string{"innodb_buffer_pool_size"} // since 10.11.12 it cannot grow beyond what the server began with

// setVariables are the statements that make overrides hold which are no options.
func setVariables(overrides []option) []string {
	var all []string
	for _, o := range overrides {
		if isVariable(o.name) {
			all = append(all, "SET GLOBAL "+o.name+" = '"+o.value+"'") // checkVariable lets no quote in
		}
	}
	return all
}
