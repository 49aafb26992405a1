// Package policy decides what a caller may do: oslo.policy's grammar, Trove's rule names and defaults, and overrides from a policy.yaml.
//
// A rule that does not exist, and a check that is not known, never allow: the first denies, the second fails the load. An Enforcer does not change
// after New and may be used from several goroutines.
package policy

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
)

// Enforcer holds the rules of a deployment.
type Enforcer struct {
	rules map[string]check
}

// New returns the default rules with the overrides in place of those of the same name. A text that does not parse, a reference to a rule
// that does not exist, or rules that refer to each other in a circle are errors that name the rule.
func New(overrides map[string]string) (*Enforcer, error) {
	texts := maps.Clone(defaults)
	maps.Copy(texts, overrides)
	e := &Enforcer{rules: make(map[string]check, len(texts))}
	for name, text := range texts {
		c, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("policy rule %q: %w", name, err)
		}
		e.rules[name] = c
	}
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		if err := e.walk(name, nil); err != nil {
			return nil, fmt.Errorf("policy rule %q: %w", name, err)
		}
	}
	return e, nil
}

// Load is New with the overrides of a policy.yaml: a mapping of rule names to rules. A file that does not exist overrides nothing.
func Load(path string) (*Enforcer, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return New(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read the policy file: %w", err)
	}
	var overrides map[string]string
	if err := yaml.Unmarshal(data, &overrides); err != nil {
		return nil, fmt.Errorf("read the policy file %s: %w", path, err)
	}
	return New(overrides)
}

// walk checks that every rule that name refers to exists and that none refers to itself.
func (e *Enforcer) walk(name string, path []string) error {
	c, ok := e.rules[name]
	if !ok {
		return fmt.Errorf("there is no rule %q", name)
	}
	if slices.Contains(path, name) {
		return fmt.Errorf("refers to itself by way of %q", name)
	}
	for _, ref := range c.references() {
		if err := e.walk(ref, append(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// Enforce returns nil if the caller may do what the rule guards to the target, else a Forbidden error in Trove's words. The target's
// attributes are what %(name)s in a rule stands for; "tenant" is the owner's project.
func (e *Enforcer) Enforce(rule string, c identity.Caller, target map[string]string) error {
	if e.allows(rule, c, target) {
		return nil
	}
	return trove.Errorf(trove.KindForbidden, "Policy doesn't allow %s to be performed.", rule)
}

// IsAdmin reports whether the caller is an administrator: the rule context_is_admin.
func (e *Enforcer) IsAdmin(c identity.Caller) bool {
	q := query{rules: e.rules, caller: c}
	return e.rules["context_is_admin"].ok(&q)
}

func (e *Enforcer) allows(rule string, c identity.Caller, target map[string]string) bool {
	r, ok := e.rules[rule]
	if !ok {
		return false
	}
	q := query{rules: e.rules, caller: c, target: target, admin: e.IsAdmin(c)}
	return r.ok(&q)
}

// Rules returns the names of all rules, ordered.
func (e *Enforcer) Rules() []string { return slices.Sorted(maps.Keys(e.rules)) }
