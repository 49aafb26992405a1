package oracles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/policy"
)

// decision is one question to both sides.
type decision struct {
	Rules  map[string]any    `json:"rules"`
	Rule   string            `json:"rule"`
	Creds  map[string]any    `json:"creds"`
	Target map[string]string `json:"target"`

	caller identity.Caller
}

// credentials is what Trove hands to oslo.policy for a caller: what its context's to_dict has, by all names that releases of oslo.context gave it.
func credentials(c identity.Caller, admin bool) map[string]any {
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	roles := c.Roles
	if roles == nil {
		roles = []string{}
	}
	var system any
	if c.System {
		system = "all"
	}
	return map[string]any{
		"is_admin": admin, "is_admin_project": c.IsAdminProject, "roles": roles, "system_scope": system, "system": system,
		"user": text(c.UserID), "user_id": text(c.UserID), "user_name": text(c.UserName), "user_domain": text(c.UserDomainID), "user_domain_id": text(c.UserDomainID),
		"project": text(c.ProjectID), "project_id": text(c.ProjectID), "tenant": text(c.ProjectID), "project_name": text(c.ProjectName),
		"project_domain": text(c.ProjectDomainID), "project_domain_id": text(c.ProjectDomainID), "domain": text(c.DomainID), "domain_id": text(c.DomainID),
	}
}

var oracleCallers = []identity.Caller{
	{UserID: "u1", UserName: "anna", UserDomainID: "d1", ProjectID: "p1", ProjectName: "blue", ProjectDomainID: "d1", Roles: []string{"member"}, IsAdminProject: true},
	{UserID: "u2", UserName: "root", UserDomainID: "d1", ProjectID: "p2", ProjectName: "red", ProjectDomainID: "d2", Roles: []string{"Admin", "member"}, IsAdminProject: true},
	{UserID: "u3", UserName: "rita", UserDomainID: "d2", ProjectID: "p1", ProjectDomainID: "d1", Roles: []string{"reader"}, IsAdminProject: false},
	{UserID: "u4", UserDomainID: "d2", System: true, Roles: []string{"admin"}, IsAdminProject: true},
	{UserID: "u5", UserDomainID: "d1", DomainID: "d1", IsAdminProject: true},
}

var oracleTargets = []map[string]string{
	{"tenant": "p1"},
	{"tenant": "p2", "user_id": "u2", "is_public": "True", "instance.project.id": "p1", "role": "ADMIN"},
	{"tenant": "", "empty": "", "word": "it's", "instance.project.id": "p2", "role": "member", "none": "None"},
	{},
}

// askOracle has oslo.policy answer all decisions: true, false, or why there was no answer.
func askOracle(t *testing.T, all []decision) []any {
	t.Helper()
	input, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "policy/oracle.py")
	cmd.Env, cmd.Stdin = environment(t.TempDir()), bytes.NewReader(input)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("oslo.policy: %v (scripts/install-packages.sh test installs it)\n%s", err, said.String())
	}
	var answers []any
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(all) {
		t.Fatalf("%d answers to %d questions: %v", len(answers), len(all), err)
	}
	return answers
}

// checks are what generated rules are made of.
var checks = []string{
	"@", "!", "role:member", "role:ADMIN", "role:%(role)s", "role:", "rule:admin", "rule:helper", "rule:never", "is_admin:True", "is_admin:False",
	"is_admin_project:True", "is_admin_project:False", "project_id:%(tenant)s", "project_id:p1", "tenant:%(tenant)s", "project:%(instance.project.id)s",
	"user_id:%(user_id)s", "user:u1", "user_domain_id:d1", "project_domain_id:%(missing)s", "domain_id:None", "domain_id:%(none)s", "system_scope:all",
	"system:all", "roles:member", "roles:Member", "roles:%(role)s", "True:%(is_public)s", "False:%(is_public)s", "None:%(none)s", "'p1':%(tenant)s",
	"\"p2\":%(instance.project.id)s", "'':%(empty)s", "'x%%y':x%%y", "project_id:p%%1", "user_name:an%(missing)s", "project_name:blue",
	"'u1':%(user_id)s", "user_id:prefix-%(tenant)s",
}

// randomRule makes a rule with so many levels of brackets at most.
func randomRule(r *rand.Rand, depth int) string {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	var parts []string
	for n := range 1 + r.IntN(4) {
		if n > 0 {
			parts = append(parts, pick("and", "or", "AND", "Or"))
		}
		for range []int{0, 0, 0, 1, 2}[r.IntN(5)] {
			parts = append(parts, pick("not", "NOT"))
		}
		if depth > 0 && r.IntN(3) == 0 {
			parts = append(parts, pick("( ", "(")+randomRule(r, depth-1)+pick(" )", ")"))
			continue
		}
		parts = append(parts, checks[r.IntN(len(checks))])
	}
	return strings.Join(parts, pick(" ", "  ", "\t"))
}

// oracleRules is a policy file around one rule.
func oracleRules(rule any) map[string]any {
	return map[string]any{
		"asked": rule, "helper": "role:reader or project_id:%(tenant)s", "never": "!", "admin": "role:admin or is_admin:True", "context_is_admin": "role:admin",
	}
}

// enforcerOf loads rules as from a policy.json.
func enforcerOf(t *testing.T, rules map[string]any) (*policy.Enforcer, error) {
	t.Helper()
	texts := map[string]string{}
	for name, rule := range rules {
		text, ok := rule.(string)
		if !ok {
			return loadPolicy(t, rules)
		}
		texts[name] = text
	}
	return policy.New(texts)
}

func isAdmin(c identity.Caller) bool { return c.HasRole("admin") }

// Every decision is the real one's, over generated rules, callers and targets. Both sides get rules that they can read.
func TestDecisionsAreOsloPolicys(t *testing.T) {
	r := rand.New(rand.NewPCG(20261129, 1))
	var all []decision
	var enforcers []*policy.Enforcer
	for n := range 1500 {
		var rule any = randomRule(r, 3)
		if n < len(checks) {
			rule = checks[n]
		}
		e, err := enforcerOf(t, oracleRules(rule))
		if err != nil {
			t.Fatalf("%q does not load: %v", rule, err)
		}
		for _, c := range oracleCallers {
			for _, target := range oracleTargets {
				all = append(all, decision{Rules: oracleRules(rule), Rule: "asked", Creds: credentials(c, isAdmin(c)), Target: target, caller: c})
				enforcers = append(enforcers, e)
			}
		}
	}
	allowed := compare(t, all, enforcers)
	t.Logf("%d decisions, %d of them allow", len(all), allowed)
	if allowed < len(all)/10 || allowed > len(all)*9/10 {
		t.Errorf("the generator is lopsided: %d of %d allow", allowed, len(all))
	}
}

// compare asks both sides, and returns how often the answer was yes.
func compare(t *testing.T, all []decision, enforcers []*policy.Enforcer) (allowed int) {
	t.Helper()
	wrong := 0
	for n, want := range askOracle(t, all) {
		d := all[n]
		got := enforcers[n].Enforce(d.Rule, d.caller, d.Target) == nil
		if got {
			allowed++
		}
		if want != any(got) {
			if wrong++; wrong <= 20 {
				t.Errorf("%s %v for %s on %v: here %v, oslo.policy %v", d.Rule, d.Rules[d.Rule], d.caller.UserID, d.Target, got, want)
			}
		}
	}
	if wrong > 20 {
		t.Errorf("and %d others", wrong-20)
	}
	return allowed
}

// Trove's own rules, all of them, decide alike.
func TestTrovesRulesDecideAlike(t *testing.T) {
	e, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]any{}
	for name, text := range policy.Defaults() {
		defaults[name] = text
	}
	var all []decision
	var enforcers []*policy.Enforcer
	for _, rule := range e.Rules() {
		for _, c := range oracleCallers {
			for _, target := range oracleTargets {
				all = append(all, decision{Rules: defaults, Rule: rule, Creds: credentials(c, isAdmin(c)), Target: target, caller: c})
				enforcers = append(enforcers, e)
			}
		}
	}
	t.Logf("%d decisions, %d of them allow", len(all), compare(t, all, enforcers))
}

// Lists of checks, the form of old policy.json files.
func TestListsOfChecksDecideAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(20261129, 2))
	var all []decision
	var enforcers []*policy.Enforcer
	for range 150 {
		list := []any{}
		for range r.IntN(4) {
			if r.IntN(4) == 0 {
				list = append(list, checks[r.IntN(len(checks))])
				continue
			}
			inner := []any{}
			for range r.IntN(4) {
				inner = append(inner, checks[r.IntN(len(checks))])
			}
			list = append(list, inner)
		}
		rules := oracleRules(list)
		e, err := enforcerOf(t, rules)
		if err != nil {
			t.Fatalf("%v does not load: %v", list, err)
		}
		for _, c := range oracleCallers {
			for _, target := range oracleTargets {
				all = append(all, decision{Rules: rules, Rule: "asked", Creds: credentials(c, isAdmin(c)), Target: target, caller: c})
				enforcers = append(enforcers, e)
			}
		}
	}
	t.Logf("%d decisions, %d of them allow", len(all), compare(t, all, enforcers))
}

// What oslo.policy cannot read it denies silently; here it does not load. A check of a kind that nobody knows it looks up among the credentials, and with
// "not" before it that allows: here it does not load either. Nothing that loads there and means something is refused here.
func TestWhatDoesNotLoadIsDeniedThere(t *testing.T) {
	broken := []string{
		"role:admin or", "or role:member", "role:member role:reader", "(role:member", "role:member)", "( )", "()", "not", "and", "member", "not and @", "@ not @",
		"((@)", "'x", "role:member or OR @", "rule:nowhere",
	}
	var all []decision
	for _, rule := range broken {
		if _, err := enforcerOf(t, oracleRules(rule)); err == nil {
			t.Errorf("%q loads", rule)
		}
		for _, c := range oracleCallers {
			all = append(all, decision{Rules: oracleRules(rule), Rule: "asked", Creds: credentials(c, isAdmin(c)), Target: oracleTargets[1], caller: c})
		}
	}
	for n, answer := range askOracle(t, all) {
		if answer == any(true) { // false, or what it raised, which is a 500 of the service
			t.Errorf("%v: oslo.policy allows it", all[n].Rules["asked"])
		}
	}
	for _, rule := range []string{"nobody:knows", "not nobody:knows", "http://127.0.0.1/x", "https://127.0.0.1/x", "project_id:%(tenant)d", "project_id:100%", "'a:b':a:b"} {
		if _, err := enforcerOf(t, oracleRules(rule)); err == nil {
			t.Errorf("%q loads", rule)
		} else if !strings.Contains(err.Error(), `"asked"`) {
			t.Errorf("%q: the error does not name the rule: %v", rule, err)
		}
	}
}

// loadPolicy loads rules as a policy.json.
func loadPolicy(t *testing.T, rules map[string]any) (*policy.Enforcer, error) {
	t.Helper()
	text, err := json.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("%s/policy.json", t.TempDir())
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return policy.Load(path)
}
