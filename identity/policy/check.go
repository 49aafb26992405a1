package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/identity"
)

// query is one decision.
type query struct {
	rules  map[string]check
	caller identity.Caller
	target map[string]string
	admin  bool
}

// check is one parsed rule or a part of one.
type check interface {
	ok(q *query) bool
	references() []string
}

type constant bool

func (c constant) ok(*query) bool     { return bool(c) }
func (constant) references() []string { return nil }

type not struct{ check }

func (n not) ok(q *query) bool { return !n.check.ok(q) }

type all []check

func (a all) ok(q *query) bool {
	return !slices.ContainsFunc(a, func(c check) bool { return !c.ok(q) })
}
func (a all) references() []string { return referencesOf(a) }

type anyOf []check

func (a anyOf) ok(q *query) bool {
	return slices.ContainsFunc(a, func(c check) bool { return c.ok(q) })
}
func (a anyOf) references() []string { return referencesOf(a) }

func referencesOf(list []check) []string {
	var refs []string
	for _, c := range list {
		refs = append(refs, c.references()...)
	}
	return refs
}

type ruleRef string

func (r ruleRef) ok(q *query) bool {
	c, found := q.rules[string(r)]
	return found && c.ok(q)
}
func (r ruleRef) references() []string { return []string{string(r)} }

type role struct{ value template }

func (r role) ok(q *query) bool {
	name, found := r.value.expand(q.target)
	return found && q.caller.HasRole(name)
}
func (role) references() []string { return nil }

// attribute compares something of the caller with a text. Of a list one that is equal is enough.
type attribute struct {
	name  string
	value template
}

func (a attribute) ok(q *query) bool {
	want, found := a.value.expand(q.target)
	if !found {
		return false
	}
	if list, ok := lists[a.name]; ok {
		return slices.Contains(list(q), want)
	}
	return attributes[a.name](q) == want
}
func (attribute) references() []string { return nil }

// attributes are the credentials that rules may name, each the text that oslo.policy compares: those of oslo.context under all of their names.
// One that the caller does not have is Python's None.
var attributes = map[string]func(q *query) string{
	"is_admin":          func(q *query) string { return pythonBool(q.admin) },
	"is_admin_project":  func(q *query) string { return pythonBool(q.caller.IsAdminProject) },
	"system_scope":      systemScope,
	"system":            systemScope,
	"project_id":        func(q *query) string { return pythonText(q.caller.ProjectID) },
	"project":           func(q *query) string { return pythonText(q.caller.ProjectID) },
	"tenant":            func(q *query) string { return pythonText(q.caller.ProjectID) },
	"project_name":      func(q *query) string { return pythonText(q.caller.ProjectName) },
	"user_id":           func(q *query) string { return pythonText(q.caller.UserID) },
	"user":              func(q *query) string { return pythonText(q.caller.UserID) },
	"user_name":         func(q *query) string { return pythonText(q.caller.UserName) },
	"domain_id":         func(q *query) string { return pythonText(q.caller.DomainID) },
	"domain":            func(q *query) string { return pythonText(q.caller.DomainID) },
	"user_domain_id":    func(q *query) string { return pythonText(q.caller.UserDomainID) },
	"user_domain":       func(q *query) string { return pythonText(q.caller.UserDomainID) },
	"project_domain_id": func(q *query) string { return pythonText(q.caller.ProjectDomainID) },
	"project_domain":    func(q *query) string { return pythonText(q.caller.ProjectDomainID) },
}

// lists are the credentials of which there are several. Unlike role:, they compare with regard to case, as oslo.policy does.
var lists = map[string]func(q *query) []string{
	"roles":         func(q *query) []string { return q.caller.Roles },
	"service_roles": func(q *query) []string { return q.caller.ServiceRoles },
}

func systemScope(q *query) string {
	if q.caller.System {
		return "all"
	}
	return pythonText("")
}

// literal compares a text of the rule itself with something of the target.
type literal struct {
	text  string
	value template
}

func (l literal) ok(q *query) bool {
	got, found := l.value.expand(q.target)
	return found && got == l.text
}
func (literal) references() []string { return nil }

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func pythonText(s string) string {
	if s == "" {
		return "None"
	}
	return s
}

// template is a text with %(name)s in it.
type template []piece

type piece struct {
	text string
	key  string // not "": the target's attribute stands here
}

func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		before, rest, found := strings.Cut(s, "%")
		if before != "" {
			t = append(t, piece{text: before})
		}
		if !found {
			break
		}
		if after, ok := strings.CutPrefix(rest, "%"); ok {
			t, s = append(t, piece{text: "%"}), after
			continue
		}
		key, after, ok := strings.Cut(rest, ")s")
		name, open := strings.CutPrefix(key, "(")
		if !ok || !open || name == "" {
			return nil, fmt.Errorf("%q: after a %% only (name)s or another %% may stand", s)
		}
		t, s = append(t, piece{key: name}), after
	}
	return t, nil
}

// expand puts the target's attributes in; false if one is not there, and then the check fails as in oslo.policy.
func (t template) expand(target map[string]string) (string, bool) {
	if len(t) == 1 && t[0].key == "" {
		return t[0].text, true
	}
	var b strings.Builder
	for _, p := range t {
		if p.key == "" {
			b.WriteString(p.text)
			continue
		}
		v, ok := target[p.key]
		if !ok {
			return "", false
		}
		b.WriteString(v)
	}
	return b.String(), true
}
