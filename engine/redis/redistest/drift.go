package redistest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// driftOfWrittenValues: the server writes some values in its own way, which is no drift; and an agent that comes back to a running server still sees what
// was changed in between.
func driftOfWrittenValues(t *testing.T, s enginetest.Setup) {
	ctx, l := t.Context(), s.Layout
	p := alice()
	p.Settings.Overrides = map[string]json.RawMessage{
		"client-output-buffer-limit": json.RawMessage(`"pubsub 16mb 4mb 30"`), "maxmemory": json.RawMessage(`"100mb"`), "notify-keyspace-events": json.RawMessage(`"KEA"`),
	}
	prepared(t, s, p)
	srv := enginetest.Start(t, s)
	want := func(when string, want ...engine.Difference) {
		t.Helper()
		got, err := s.Engine.(engine.DriftSource).Drift(ctx, l)
		must(t, err)
		if diff := cmp.Diff(append([]engine.Difference{}, want...), got); diff != "" {
			t.Errorf("Drift() %s (-want +got):\n%s", when, diff)
		}
	}
	want("after the start")
	overrides := map[string]json.RawMessage{"notify-keyspace-events": json.RawMessage(`"EKx"`), "maxmemory": json.RawMessage(`"100mb"`), "databases": json.RawMessage("20")}
	if _, err := s.Engine.(engine.Configurable).Apply(ctx, l, overrides); err != nil {
		t.Fatal(err)
	}
	want("after Apply")
	must(t, s.Set(ctx, l, "", "maxmemory", "99mb"))
	must(t, s.Set(ctx, l, "", "client-output-buffer-limit", "pubsub 1mb 1mb 1")) // no override any more
	changed := engine.Difference{Name: "maxmemory", Want: "100mb", Is: "103809024"}
	want("after the change", changed)
	must(t, s.Engine.Ready(ctx, l)) // as an agent does that was restarted
	want("when the agent came back", changed)
	overrides["maxmemory"] = json.RawMessage(`"101mb"`)
	if _, err := s.Engine.(engine.Configurable).Apply(ctx, l, overrides); err != nil {
		t.Fatal(err)
	}
	want("after another value")
	srv.Stop()
	enginetest.Start(t, s)
	want("after a restart")
}
