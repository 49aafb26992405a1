package enginetest

import (
	"cmp"
	"encoding/json"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// drift changes a parameter past the agent. What Configure and Apply did themselves is no drift, whatever the server makes of the value.
func drift(t *testing.T, s Setup) {
	e, ok := s.Engine.(engine.DriftSource)
	if !ok {
		return
	}
	if s.Override == "" {
		return // nobody can set anything
	}
	if s.Set == nil {
		t.Fatal("the driver is a DriftSource: the setup must say how somebody changes a parameter past it")
	}
	c, ok := s.Engine.(engine.Configurable)
	if !ok {
		t.Fatal("a DriftSource must be Configurable")
	}
	ctx, l := t.Context(), s.Layout
	srv := startedWith(t, s, engine.Preparation{RootPassword: rootPassword})
	want := func(what string, all ...engine.Difference) {
		t.Helper()
		got, err := e.Drift(ctx, l)
		must(t, err)
		if d := diff.Diff(all, got); d != "" && len(all)+len(got) > 0 {
			t.Errorf("drift %s (-want +got):\n%s", what, d)
		}
	}
	want("after the start")
	value := json.RawMessage(s.Value)
	if !json.Valid(value) {
		value, _ = json.Marshal(s.Value)
	}
	_, err := c.Apply(ctx, l, map[string]json.RawMessage{s.Override: value})
	must(t, err)
	want("after Apply")
	must(t, s.Set(ctx, l, rootPassword, s.Override, s.Changed))
	changed := engine.Difference{Name: s.Override, Want: s.Value, Is: cmp.Or(s.ChangedShown, s.Changed)}
	want("after the change", changed)
	must(t, s.Set(ctx, l, rootPassword, s.Override, s.Value))
	want("when it was set back")
	must(t, s.Set(ctx, l, rootPassword, s.Override, s.Changed))
	srv.Stop()
	_, err = e.Drift(ctx, l)
	wantKind(t, "Drift of a stopped server", err, trove.KindUnavailable)
	srv = Start(t, s)
	if s.SetStays {
		want("after a restart", changed)
	} else {
		want("after a restart")
	}
	srv.Stop()
}
