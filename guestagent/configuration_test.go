package guestagent_test

import (
	"encoding/json"
	"slices"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

func applied(revision int64, things string) guestapi.ApplyConfigurationArgs {
	return guestapi.ApplyConfigurationArgs{Revision: revision, Overrides: map[string]json.RawMessage{"static_things": json.RawMessage(things)}}
}

func (g *guest) wantThings(want string) {
	g.t.Helper()
	s, err := fake.Settings(g.layout)
	if err != nil || string(s.Overrides["static_things"]) != want {
		g.t.Errorf("the engine has %v, %v, want %s", s.Overrides, err, want)
	}
}

func TestAppliesTheNewestConfiguration(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	for range 2 { // the same one may come again
		done, fail := ask[guestapi.ConfigurationApplied](g, guestapi.CmdApplyConfiguration, "a", applied(7, "5"))
		if fail != nil || !slices.Equal(done.Restart, []string{"static_things"}) {
			t.Fatalf("it was answered with %+v, %+v", done, fail)
		}
	}
	if _, fail := ask[any](g, guestapi.CmdApplyConfiguration, "b", applied(6, "4")); fail == nil || fail.Kind != trove.KindConflict {
		t.Errorf("an older one was answered with %+v", fail)
	}
	g.wantThings("5")
	g.stop()
	g.start() // the next agent knows it too, once it has found the engine
	g.until("an older one is refused by the next agent", func() bool {
		_, fail := ask[any](g, guestapi.CmdApplyConfiguration, "c", applied(6, "4"))
		return fail != nil && fail.Kind == trove.KindConflict
	})
	g.wantThings("5")
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateDone {
		t.Fatalf("restart ended with %+v", end)
	}
	done, fail := ask[guestapi.ConfigurationApplied](g, guestapi.CmdApplyConfiguration, "d", applied(8, "5"))
	if fail != nil || len(done.Restart) != 0 {
		t.Errorf("after the restart it was answered with %+v, %+v", done, fail)
	}
}

func TestConfigurationThatIsRefusedChangesNothing(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	if _, fail := ask[any](g, guestapi.CmdApplyConfiguration, "a", applied(1, "5")); fail != nil {
		t.Fatal(fail)
	}
	bad := applied(2, "6")
	bad.Overrides["invalid"] = json.RawMessage("1")
	if _, fail := ask[any](g, guestapi.CmdApplyConfiguration, "b", bad); fail == nil || fail.Kind != trove.KindBadRequest {
		t.Errorf("it was answered with %+v", fail)
	}
	g.wantThings("5")
	if end := g.long(guestapi.CmdStop, "op/stop", nil); end.State != guestapi.StateDone {
		t.Fatalf("stop ended with %+v", end)
	}
	if _, fail := ask[any](g, guestapi.CmdApplyConfiguration, "c", applied(3, "7")); fail == nil || fail.Kind != trove.KindUnavailable {
		t.Errorf("of a database that is down it was answered with %+v", fail)
	}
	g.wantThings("5")
}

// unconfigurable is an engine without parameters of its users.
type unconfigurable struct{ engine.Engine }

func TestEngineWithoutParameters(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = unconfigurable{g.fake}
	g.prepared()
	if _, fail := ask[any](g, guestapi.CmdApplyConfiguration, "a", applied(1, "5")); fail == nil || fail.Kind != trove.KindNotImplemented {
		t.Errorf("it was answered with %+v", fail)
	}
}
