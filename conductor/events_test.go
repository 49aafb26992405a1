package conductor_test

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// events returns the kinds, counts and details of an instance's timeline.
func (w *world) events(instance string) []trove.InstanceEvent {
	w.t.Helper()
	got, err := w.store.InstanceEvents(w.t.Context(), instance, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

var kindAndCount = cmpopts.IgnoreFields(trove.InstanceEvent{}, "InstanceID", "Seq", "At", "First", "Sentence", "Details")

// TestEngineFailureIsInTheTimeline says it as an agent does: several times, with the same name.
func TestEngineFailureIsInTheTimeline(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		say := func(s trove.ServiceStatus, event string, name int64) {
			b := beat(s)
			b.Event, b.EventAt = event, name
			w.say(first, guestapi.ReportHeartbeat, b)
			synctest.Wait()
		}
		say(trove.ServiceHealthy, "", 0)
		for range 3 {
			say(trove.ServiceCrashed, "The database ended by itself (signal: killed). Its log ends with:\npage 4\nis damaged", 1)
		}
		say(trove.ServiceHealthy, "", 0)
		say(trove.ServiceCrashed, "It ended again.", 2)
		want := []trove.InstanceEvent{
			{Kind: "database.crashed", Count: 2}, {Kind: trove.EventEngineFailed, Count: 2}, {Kind: "database.healthy", Count: 1},
		}
		got := w.events(first)
		if d := cmp.Diff(want, got, kindAndCount); d != "" {
			t.Fatalf("-want +got\n%s", d)
		}
		if e := got[1]; e.Sentence != "It ended again." || e.Details != "" {
			t.Errorf("%+v", e)
		}
	}, first)
}

func TestEvidenceIsKeptApart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := beat(trove.ServiceHealthy)
		b.Event = "It ended. Its log ends with:\npage 4\nis damaged" // of an agent that does not name events
		w.say(first, guestapi.ReportHeartbeat, b)
		synctest.Wait()
		got := w.events(first)
		if len(got) != 1 || got[0].Sentence != "It ended." || got[0].Details != "page 4\nis damaged" {
			t.Errorf("%+v", got)
		}
	}, first)
}

// TestRestartsAreInTheTimeline tells a start of the machine from one of the agent and from a connection that was lost.
func TestRestartsAreInTheTimeline(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		b := beat(trove.ServiceHealthy)
		b.AgentStart = 1
		hello := guestapi.Hello{BootID: b.BootID, AgentVersion: "1", Protocol: 1, Engine: "mariadb", AgentStart: 1}
		say := func() {
			w.say(first, guestapi.ReportHello, hello)
			w.say(first, guestapi.ReportHeartbeat, b)
			synctest.Wait()
		}
		say()
		say() // the connection
		b.AgentStart, hello.AgentStart = 2, 2
		say()
		b.AgentStart, hello.AgentStart, b.BootID, hello.BootID = 3, 3, "boot-2", "boot-2"
		say()
		b.AgentStart, hello.AgentStart, b.AgentVersion, hello.AgentVersion = 4, 4, "2", "2"
		say()
		want := []trove.InstanceEvent{
			{Kind: trove.EventAgentRestarted, Count: 1}, {Kind: trove.EventMachineStarted, Count: 1}, {Kind: trove.EventAgentChanged, Count: 1},
		}
		if d := cmp.Diff(want, w.events(first), kindAndCount, cmpopts.IgnoreSliceElements(func(e trove.InstanceEvent) bool { return e.Kind == "database.healthy" })); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}, first)
}

// TestLiarFillsNothing lets a guest make up as much as its budget allows.
func TestLiarFillsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for n := range 90 {
			b := beat([]trove.ServiceStatus{trove.ServiceHealthy, trove.ServiceCrashed, trove.ServiceBlocked}[n%3])
			b.Event, b.EventAt, b.AgentStart, b.BootID = "made up", int64(n+1), int64(n+1), string(rune('a'+n%26))
			w.say(first, guestapi.ReportHeartbeat, b)
			synctest.Wait()
		}
		if got := w.events(first); len(got) > 8 || len(got) < 4 {
			t.Errorf("%d lines: %+v", len(got), got)
		}
		if got := w.events(second); len(got) != 0 {
			t.Errorf("another instance has %+v", got)
		}
	}, first, second)
}

// TestAnOlderAgentIsAnAlarm tells three ways in which the version of an agent changes apart, in hellos and in heartbeats.
func TestAnOlderAgentIsAnAlarm(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		hello := func(version, back string) {
			w.say(first, guestapi.ReportHello, guestapi.Hello{BootID: "boot-1", AgentVersion: version, Protocol: 1, Engine: "mariadb", TakenBack: back})
			synctest.Wait()
		}
		hello("1.2.0", "")
		hello("1.3.0", "")      // upgraded
		hello("1.2.0", "1.3.0") // and taken back
		hello("1.3.0", "")
		if n := w.metric("trove_conductor_agent_downgrades_total", ""); n != 0 {
			t.Errorf("%v alarms before there was a reason", n)
		}
		hello("1.2.0", "1.1.0") // another one was taken back
		b := beat(trove.ServiceHealthy)
		b.AgentVersion = "1.3.0"
		w.say(first, guestapi.ReportHeartbeat, b)
		synctest.Wait()
		b.AgentVersion = "1.1.9" // all else is the same
		w.say(first, guestapi.ReportHeartbeat, b)
		synctest.Wait()
		b.AgentVersion = "1.1.9"
		w.say(first, guestapi.ReportHeartbeat, b)
		synctest.Wait()
		if n := w.metric("trove_conductor_agent_downgrades_total", ""); n != 2 {
			t.Errorf("%v alarms", n)
		}
		counts := map[string]int{}
		for _, e := range w.events(first) {
			counts[e.Kind] += e.Count
		}
		delete(counts, "database.healthy")
		want := map[string]int{trove.EventAgentChanged: 3, trove.EventAgentTakenBack: 1, trove.EventAgentDowngraded: 2}
		if d := cmp.Diff(want, counts); d != "" {
			t.Error(d)
		}
	}, first)
}
