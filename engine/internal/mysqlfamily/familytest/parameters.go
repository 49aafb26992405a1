package familytest

import (
	"context"
	"encoding/json"
	"math/big"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

func (c Case) rulesAreThoseOfTheServer(t *testing.T) {
	s := c.prepared(t, engine.Preparation{RootPassword: "root-password"})
	enginetest.Start(t, s)
	server := c.Variables(t, client(t, s.Layout, "root", "root-password", ""))
	rules := c.rules(t)
	for name := range strings.FieldsSeq(c.Troves) {
		if _, ok := trove.FindParameter(rules, name); !ok {
			t.Errorf("Trove's parameter %s is missing", name)
		}
	}
	for _, p := range rules {
		v, ok := server[p.Name]
		if !ok {
			t.Errorf("%s: the server has no such variable", p.Name)
			continue
		}
		if p.RestartRequired != v.ReadOnly {
			t.Errorf("%s: restart_required is %t, the server's variable is read only: %t", p.Name, p.RestartRequired, v.ReadOnly)
		}
		if want := v.Type; p.Type != want && !slices.Contains(numbers, p.Name) && (p.Type != trove.ParameterInteger || want != trove.ParameterFloat) {
			t.Errorf("%s: type %s, the server's is %s", p.Name, p.Type, want)
		}
		if v.Max != "" && !slices.Contains(numbers, p.Name) && (beyond(t, string(p.Max), v.Max) > 0 || beyond(t, v.Min, string(p.Min)) > 0 && p.Name != "max_user_connections") {
			t.Errorf("%s: %s to %s, the server takes %s to %s", p.Name, p.Min, p.Max, v.Min, v.Max)
		}
	}
}

// numbers are switches of the server that are numbers in Trove's rules.
var numbers = []string{"autocommit", "innodb_file_per_table", "local_infile"}

// rules are those for the version of the server's programs.
func (c Case) rules(t *testing.T) []trove.Parameter {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), c.Server, "--version").Output()
	must(t, err)
	version := c.Version.FindSubmatch(out)
	if version == nil {
		t.Fatalf("%s has no version", out)
	}
	return c.New().ParametersOf(string(version[1]))
}

func beyond(t *testing.T, a, b string) int {
	t.Helper()
	x, ok1 := new(big.Rat).SetString(a)
	y, ok2 := new(big.Rat).SetString(b)
	if !ok1 || !ok2 {
		t.Fatalf("%q or %q is no number", a, b)
	}
	return x.Cmp(y)
}

// value makes a value that a rule allows and that is not the one that the server has.
func value(p trove.Parameter, now Variable) json.RawMessage {
	switch p.Type {
	case trove.ParameterInteger, trove.ParameterFloat:
		text := string(p.Min)
		if now.Global == text || p.Name == "max_allowed_packet" {
			text = string(p.Max)
		}
		switch {
		case slices.Contains(numbers, p.Name):
			text = map[string]string{"ON": "0", "OFF": "1"}[now.Global]
		case strings.HasPrefix(p.Name, "performance_schema_") && text == string(p.Max): // gigabytes, all of them touched at each start
			text = "100"
		case len(text) > 8: // more than this machine has
			text = now.Global
		}
		return json.RawMessage(text)
	case trove.ParameterBoolean:
		return json.RawMessage(map[string]string{"ON": "false", "OFF": "true"}[now.Global])
	}
	return nil
}

// everyParameterCanBeSetAndSurvivesARestart sets all of them at once, some with their smallest value.
func (c Case) everyParameterCanBeSetAndSurvivesARestart(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "alice-password"}}})
	srv := enginetest.Start(t, s)
	db := client(t, s.Layout, "alice", "alice-password", "")
	e := c.New()
	before := c.Variables(t, db)
	overrides := map[string]json.RawMessage{}
	for _, p := range c.rules(t) {
		v := value(p, before[p.Name])
		if text, ok := c.Values[p.Name]; ok {
			v = json.RawMessage(strconv.Quote(text))
		}
		if v == nil {
			t.Errorf("%s: the test has no value for it", p.Name)
			continue
		}
		if err := p.Check(v); err != nil {
			t.Errorf("%s=%s: %v", p.Name, v, err)
		}
		if slices.Contains(c.Excluded, p.Name) {
			continue
		}
		overrides[p.Name] = v
	}
	waiting, err := e.Apply(t.Context(), s.Layout, overrides)
	must(t, err)
	for _, p := range c.rules(t) {
		if _, set := overrides[p.Name]; set && p.RestartRequired != slices.Contains(waiting, p.Name) {
			t.Errorf("%s: restart_required is %t, it waits for a restart: %t", p.Name, p.RestartRequired, slices.Contains(waiting, p.Name))
		}
	}
	live := c.Variables(t, db)
	srv.Stop()
	srv = enginetest.Start(t, s)
	db = client(t, s.Layout, "alice", "alice-password", "")
	restarted := c.Variables(t, db)
	for name := range overrides {
		if p, _ := trove.FindParameter(c.rules(t), name); !p.RestartRequired && restarted[name].Global != live[name].Global {
			t.Errorf("%s=%s: %s at once, %s after a restart", name, overrides[name], live[name].Global, restarted[name].Global)
		}
	}
	if waiting, err = e.Apply(t.Context(), s.Layout, overrides); err != nil || len(waiting) > 0 {
		t.Errorf("Apply() after the restart = %v, %v", waiting, err)
	}
	_, err = e.Apply(t.Context(), s.Layout, nil)
	must(t, err)
	srv.Stop()
	enginetest.Start(t, s)
	db = client(t, s.Layout, "alice", "alice-password", "")
	again := c.Variables(t, db)
	for name := range overrides {
		if again[name].Global != before[name].Global {
			t.Errorf("%s is %s in the end, was %s", name, again[name].Global, before[name].Global)
		}
	}
}

// appliesAreTogetherOrNot sets a good and a bad value in both orders of their names.
func (c Case) appliesAreTogetherOrNot(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "alice-password"}}})
	enginetest.Start(t, s)
	db := client(t, s.Layout, "alice", "alice-password", "")
	before := c.Variables(t, db)
	_, err := c.New().Apply(t.Context(), s.Layout, map[string]json.RawMessage{
		"connect_timeout": json.RawMessage("33"), "max_connections": json.RawMessage("0"), "optimizer_switch": json.RawMessage(`"mrr=on"`),
		"sort_buffer_size": json.RawMessage("65536"),
	})
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "max_connections") {
		t.Fatalf("Apply() = %v, want the parameter named that is refused", err)
	}
	after := c.Variables(t, db)
	for _, name := range []string{"connect_timeout", "max_connections", "optimizer_switch", "sort_buffer_size"} {
		if before[name].Global != after[name].Global {
			t.Errorf("%s is %s, was %s", name, after[name].Global, before[name].Global)
		}
	}
}

func (c Case) bufferPoolBeyondTheMemoryIsRefused(t *testing.T) {
	for value, want := range map[string]trove.Kind{"536870912": 0, "536870913": trove.KindBadRequest, `"513M"`: trove.KindBadRequest} {
		s := c.setup(t)
		err := s.Engine.Configure(t.Context(), s.Layout, engine.Settings{
			RAM: 512, Overrides: map[string]json.RawMessage{"innodb_buffer_pool_size": json.RawMessage(value)},
		})
		if (err != nil) != (want != 0) || err != nil && trove.KindOf(err) != want {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// agentIsNotBoundByGlobalVariables sets what would end the agent's own statements.
func (c Case) agentIsNotBoundByGlobalVariables(t *testing.T) {
	s := c.prepared(t, engine.Preparation{})
	srv := enginetest.Start(t, s)
	ctx, e := t.Context(), c.New()
	binding := map[string]json.RawMessage{}
	for name, value := range c.Binding {
		binding[name] = json.RawMessage(value)
	}
	_, err := e.Apply(ctx, s.Layout, binding)
	must(t, err)
	for range 2 {
		must(t, e.CreateUser(ctx, s.Layout, trove.User{Name: `o'brien\`, Password: "p-1", Databases: []string{"shop"}}))
		users, err := e.Users(ctx, s.Layout)
		if err != nil || len(users) != 1 || users[0].Name != `o'brien\` {
			t.Errorf("Users() = %v, %v", users, err)
		}
		must(t, e.DropUser(ctx, s.Layout, `o'brien\`, ""))
		srv.Stop()
		srv = enginetest.Start(t, s)
	}
}

func (c Case) firstStartHasTheOverrides(t *testing.T) {
	p := engine.Preparation{
		Users: []trove.User{{Name: "alice", Password: "alice-password", Databases: []string{"shop"}}}, Databases: []trove.Database{{Name: "shop"}},
		Settings: engine.Settings{Overrides: map[string]json.RawMessage{
			"max_connections": json.RawMessage("77"), "time_zone": json.RawMessage(`"+03:00"`), "performance_schema": json.RawMessage("true"),
		}},
	}
	s := c.prepared(t, p)
	enginetest.Start(t, s)
	v := c.Variables(t, client(t, s.Layout, "alice", "alice-password", "shop"))
	for name, want := range map[string]string{"max_connections": "77", "time_zone": "+03:00", "performance_schema": "ON"} {
		if v[name].Global != want {
			t.Errorf("%s = %s, want %s", name, v[name].Global, want)
		}
	}
	p.Settings.Overrides = map[string]json.RawMessage{"innodb_flush_method": json.RawMessage(`"nonsense"`)}
	bad := c.setup(t)
	c.fill(t, bad.Layout)
	err := bad.Engine.Prepare(context.WithoutCancel(t.Context()), bad.Layout, p)
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "nonsense") {
		t.Errorf("Prepare() = %v, want the value refused that the server would not start with", err)
	}
}
