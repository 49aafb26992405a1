package enginetest

import (
	"encoding/json"
	"slices"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// apply changes the overrides of a running server: what can be changed at once is, what cannot waits for the next start, and what is refused changes
// nothing.
func apply(t *testing.T, s Setup) {
	c, ok := s.Engine.(engine.Configurable)
	if !ok {
		return // its parameters are not the users'
	}
	checkRules(t, c.Parameters())
	if len(c.Defaults(engine.Settings{RAM: 512, VCPUs: 1})) == 0 {
		t.Error("Defaults() is empty")
	}
	ctx, l := t.Context(), s.Layout
	_, err := c.Apply(ctx, l, nil)
	wantKind(t, "Apply before Prepare", err, trove.KindConflict)
	srv := started(t, s)
	set := func(overrides map[string]string, want ...string) {
		t.Helper()
		for range 2 { // it may be repeated
			waiting, err := c.Apply(ctx, l, raw(overrides))
			must(t, err)
			if !slices.Equal(waiting, want) {
				t.Errorf("Apply(%v): %v wait for the next start, want %v", overrides, waiting, want)
			}
		}
	}
	for name, value := range s.BadOverrides {
		_, err := c.Apply(ctx, l, raw(map[string]string{name: value}))
		wantKind(t, "Apply "+name+"="+value, err, trove.KindBadRequest)
	}
	if s.Override == "" {
		return
	}
	read := func(when, want string) {
		t.Helper()
		if got, err := s.Read(ctx, l, "alice", alicePassword); err != nil || got != want {
			t.Errorf("%s: %s = %q, %v, want %s", when, s.Override, got, err, want)
		}
	}
	before, err := s.Read(ctx, l, "alice", alicePassword)
	must(t, err)
	dynamic := map[string]string{s.Override: s.Value}
	set(dynamic)
	read("at once", s.Value)
	for name, value := range s.Refused { // the good one beside it is not changed, whichever comes first
		_, err := c.Apply(ctx, l, raw(map[string]string{name: value, s.Static: s.StaticValue}))
		wantKind(t, "Apply "+name+"="+value, err, trove.KindBadRequest)
		read("after "+name+"="+value+" was refused", s.Value)
	}
	set(dynamic) // nothing of the refused waits
	both := map[string]string{s.Override: s.Value, s.Static: s.StaticValue}
	set(both, s.Static)
	set(dynamic) // taken back before a restart: nothing waits any more
	set(both, s.Static)
	srv.Stop()
	_, err = c.Apply(ctx, l, raw(dynamic))
	wantKind(t, "Apply to a server that is down", err, trove.KindUnavailable)
	srv = Start(t, s)
	read("after a restart", s.Value)
	set(both)
	set(nil, s.Static)
	read("without overrides", before)
	srv.Stop()
	Start(t, s)
	read("without overrides, after a restart", before)
	set(nil)
}

func raw(overrides map[string]string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, value := range overrides {
		out[name] = json.RawMessage(value)
	}
	return out
}

func checkRules(t *testing.T, rules []trove.Parameter) {
	t.Helper()
	last := ""
	for _, p := range rules {
		if p.Name <= last {
			t.Errorf("the rule for %s comes after that for %s: they must be ordered by name, one each", p.Name, last)
		}
		last = p.Name
		if err := p.CheckRange(); err != nil {
			t.Errorf("the rule for %s: %v", p.Name, err)
		}
		if !slices.Contains([]trove.ParameterType{trove.ParameterInteger, trove.ParameterFloat, trove.ParameterBoolean, trove.ParameterString}, p.Type) {
			t.Errorf("the rule for %s has the type %q", p.Name, p.Type)
		}
	}
}
