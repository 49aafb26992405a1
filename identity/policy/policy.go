// Package policy decides what a caller may do: oslo.policy's grammar, Trove's rule names and defaults, and overrides from a policy.yaml.
//
// A rule that does not exist, and a check that is not known, never allow: the first denies, the second fails the load. An Enforcer does not change
// after New and may be used from several goroutines.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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
	rules := make(map[string]any, len(overrides))
	for name, text := range overrides {
		rules[name] = text
	}
	return build(rules)
}

// build is New with rules as a file has them: texts, or lists in the old form.
func build(overrides map[string]any) (*Enforcer, error) {
	e := &Enforcer{rules: make(map[string]check, len(defaults)+len(overrides))}
	for name, text := range defaults {
		if _, overridden := overrides[name]; overridden {
			continue
		}
		if err := e.add(name, text); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if err := e.add(name, overrides[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		if err := e.walk(name, nil); err != nil {
			return nil, fmt.Errorf("policy rule %q: %w", name, err)
		}
	}
	return e, nil
}

func (e *Enforcer) add(name string, rule any) error {
	var c check
	var err error
	switch r := rule.(type) {
	case string:
		c, err = parse(r)
	case nil: // oslo.policy takes it as always; nobody means that
		err = errors.New(`there is no text: write "" for always, "!" for never`)
	case []any:
		c, err = parseList(r)
	default:
		err = fmt.Errorf("%v is neither a text nor a list", rule)
	}
	if err != nil {
		return fmt.Errorf("policy rule %q: %w", name, err)
	}
	e.rules[name] = c
	return nil
}

// Load is New with the overrides of a policy.yaml: a mapping of rule names to rules. A file that does not exist overrides nothing, unless a
// policy.json is in its place: that one is read then, as oslo.policy does.
func Load(path string) (*Enforcer, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) && filepath.Base(path) == "policy.yaml" {
		path = filepath.Join(filepath.Dir(path), "policy.json")
		data, err = os.ReadFile(path)
	}
	if os.IsNotExist(err) {
		return New(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read the policy file: %w", err)
	}
	overrides, err := decode(path, data)
	if err != nil {
		return nil, fmt.Errorf("read the policy file %s: %w", path, err)
	}
	e, err := build(overrides)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

func decode(path string, data []byte) (map[string]any, error) {
	var overrides map[string]any
	if filepath.Ext(path) == ".json" {
		err := json.Unmarshal(data, &overrides) // YAML would refuse its tabs
		return overrides, err
	}
	err := yaml.Unmarshal(data, &overrides)
	return overrides, err
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

// Defaults returns the rules that apply where no file says otherwise: Trove's, and those of our extensions.
func Defaults() map[string]string { return maps.Clone(defaults) }

// Rules returns the names of all rules, ordered.
func (e *Enforcer) Rules() []string { return slices.Sorted(maps.Keys(e.rules)) }
