package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/policy"
)

var (
	member   = identity.Caller{UserID: "u1", ProjectID: "p1", Roles: []string{"member"}, IsAdminProject: true}
	stranger = identity.Caller{UserID: "u2", ProjectID: "p2", Roles: []string{"member"}}
	admin    = identity.Caller{UserID: "u3", ProjectID: "p3", Roles: []string{"Admin"}}
)

func TestDefaults(t *testing.T) {
	e, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"tenant": "p1"}
	for _, c := range []struct {
		rule   string
		caller identity.Caller
		want   bool
	}{
		{"instance:create", member, true},
		{"instance:create", stranger, false},
		{"instance:create", admin, true},
		{"instance:reset_status", member, false},
		{"instance:reset_status", admin, true},
		{"datastore:index", stranger, true},
		{"instance:no_such_rule", admin, false},
	} {
		err := e.Enforce(c.rule, c.caller, own)
		if (err == nil) != c.want {
			t.Errorf("Enforce(%s, %s) = %v, want allowed %v", c.rule, c.caller.UserID, err, c.want)
		}
		if err != nil && trove.KindOf(err) != trove.KindForbidden {
			t.Errorf("Enforce(%s) denied with kind %v", c.rule, trove.KindOf(err))
		}
	}
}

func TestGrammar(t *testing.T) {
	target := map[string]string{"tenant": "p1", "flag": "True", "word": "blue"}
	for _, c := range []struct {
		rule string
		want bool
	}{
		{"", true},
		{"@", true},
		{"!", false},
		{"not !", true},
		{"role:member", true},
		{"ROLE:member or @", false}, // a load error, see below
		{"role:admin or role:member and project_id:%(tenant)s", true},
		{"(role:admin or role:member) and project_id:p9", false},
		{"not role:admin and not role:other", true},
		{"role:admin or not (role:member and !)", true},
		{"project_id:%(missing)s", false},
		{"True:%(flag)s", true},
		{"'blue':%(word)s", true},
		{"\"red\":%(word)s", false},
		{"is_admin:False", true},
		{"user_id:u1 AND role:MEMBER", true},
		{"project_domain_id:None", true},
		{"roles:member", true},
		{"roles:Member", false},
		{"is_admin_project:True and system_scope:None", true},
		{"service_roles:service", false},
	} {
		e, err := policy.New(map[string]string{"r": c.rule})
		if strings.HasPrefix(c.rule, "ROLE") {
			if err == nil {
				t.Errorf("%q loaded: an unknown kind must be an error", c.rule)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.rule, err)
			continue
		}
		if got := e.Enforce("r", member, target) == nil; got != c.want {
			t.Errorf("%q allows %v, want %v", c.rule, got, c.want)
		}
	}
}

func TestWhatDoesNotLoad(t *testing.T) {
	for _, rule := range []string{
		"role:admin or", "and role:admin", "role:admin role:member", "(role:admin", "role:admin)", "admin", "not",
		"rule:nowhere", "rule:r", "http://example/policy", "role:%(x", "rule:", "project:%d",
		strings.Repeat("(", 100) + "@" + strings.Repeat(")", 100),
	} {
		if _, err := policy.New(map[string]string{"r": rule}); err == nil || !strings.Contains(err.Error(), `"r"`) {
			t.Errorf("%q: error %v, want one that names the rule", rule, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := policy.Load(filepath.Join(dir, "none.yaml")); err != nil {
		t.Fatalf("no file: %v", err)
	}
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte("instance:create: \"role:creator\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if e.Enforce("instance:create", member, map[string]string{"tenant": "p1"}) == nil {
		t.Error("the override of policy.yaml has no effect")
	}
	if err := os.WriteFile(path, []byte("- a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(path); err == nil {
		t.Error("a list was taken for a policy file")
	}
}

// Operators who never converted their policy.json keep it: oslo.policy reads it where there is no policy.yaml, lists of checks included.
func TestPolicyJSON(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{\n\t\"instance:create\": \"role:creator\",\n\t\"instance:delete\": [[\"role:admin\"], [\"role:member\", \"project_id:%(tenant)s\"]],\n" +
		"\t\"instance:show\": [], \"instance:index\": [[]], \"instance:detail\": [\"role:none\", \"role:member\"]\n}")
	e, err := policy.Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for rule, want := range map[string]bool{
		"instance:create": false, "instance:delete": true, "instance:show": true, "instance:index": false, "instance:detail": true, "instance:update": true,
	} {
		if got := e.Enforce(rule, member, map[string]string{"tenant": "p1"}) == nil; got != want {
			t.Errorf("%s allows %v, want %v", rule, got, want)
		}
	}
	if e.Enforce("instance:delete", member, map[string]string{"tenant": "p2"}) == nil {
		t.Error("of a list in a list one check was enough")
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte("instance:create: '@'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err = policy.Load(filepath.Join(dir, "policy.yaml")); err != nil || e.Enforce("instance:create", stranger, nil) != nil {
		t.Errorf("beside a policy.yaml the policy.json counts: %v", err)
	}
	for _, bad := range []string{`{"r": [["role:a role:b"]]}`, `{"r": [[1]]}`, `{"r": null}`, `{"r": {"a": 1}}`, `{"r": [["nonsense"]]}`, `{`, `[]`} {
		write(bad)
		if _, err := policy.Load(filepath.Join(dir, "policy.json")); err == nil || !strings.Contains(err.Error(), "policy.json") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A rule file that is there but cannot be read must not leave the defaults in force: they may allow more.
func TestFilesThatCannotBeRead(t *testing.T) {
	if _, err := policy.Load(t.TempDir()); err == nil {
		t.Error("a folder was taken for no file")
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"", "@", "not (role:a or !)", "project_id:%(tenant)s", "'x':%(y)s", "((", "a:b and"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		e, err := policy.New(map[string]string{"fuzzed": rule})
		if err != nil {
			return
		}
		_ = e.Enforce("fuzzed", member, map[string]string{"tenant": "p1"})
		if e.Enforce("instance:reset_status", member, nil) == nil {
			t.Fatalf("%q changed another rule", rule)
		}
	})
}
