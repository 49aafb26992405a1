package mysqlfamily

import (
	"slices"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Parameters implements engine.Configurable.
func (e *Engine) Parameters() []trove.Parameter { return e.product.Rules.For("") }

// ParametersOf implements engine.VersionedRules.
func (e *Engine) ParametersOf(version string) []trove.Parameter { return e.product.Rules.For(version) }

// Defaults implements engine.Configurable.
func (e *Engine) Defaults(s engine.Settings) map[string]string {
	out := map[string]string{"port": strconv.Itoa(port), "skip_name_resolve": "ON", "log_output": "FILE"}
	for _, o := range append(e.product.derived(s), e.product.Shown...) {
		out[o.Name] = o.Value
	}
	return out
}

func (p *Product) isVariable(name string) bool { return slices.Contains(p.Variables, name) }

// setVariables are the statements that make overrides hold which are no options.
func (p *Product) setVariables(overrides []Option) []string {
	var all []string
	for _, o := range overrides {
		if p.isVariable(o.Name) {
			all = append(all, "SET GLOBAL "+o.Name+" = '"+o.Value+"'") // checkVariable lets no quote in
		}
	}
	return all
}
