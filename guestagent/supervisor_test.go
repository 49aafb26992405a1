package guestagent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

const testShort = 200 * time.Millisecond

func TestCrashIsReportedAndMended(t *testing.T) {
	g := newGuest(t)
	silent := g.deafen()
	silent.Store(false)
	g.fake.RunScript("echo 'page 4 is damaged' >&2; up; exec sleep 1000")
	g.prepared()
	g.untilService(trove.ServiceHealthy)
	old := g.enginePID()
	silent.Store(true) // the next one does not get ready before this one was seen to have crashed
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var event string
	g.until("an event", func() bool {
		for _, h := range received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat) {
			if h.Event != "" {
				event = h.Event
				return true
			}
		}
		return false
	})
	if !strings.Contains(event, "signal: killed") || !strings.Contains(event, "page 4 is damaged") {
		t.Errorf("the event is %q", event)
	}
	g.untilService(trove.ServiceCrashed)
	silent.Store(false)
	g.untilService(trove.ServiceHealthy)
	if g.enginePID() == old {
		t.Error("the same process is named")
	}
	names := map[int64]bool{}
	for _, h := range received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat) {
		if h.Event != "" {
			names[h.EventAt] = true
		}
	}
	if len(names) != 1 || names[0] {
		t.Errorf("one crash made the events %v", names)
	}
}

// What it writes at each start lies on the volume of the data, and it may be started again for weeks.
func TestAnEngineThatDoesNotGetUpDoesNotFillTheVolume(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	starts := filepath.Join(g.layout.Runtime, "starts")
	g.fake.RunScript(`x() { head -c 3000000 /dev/zero | tr '\0' x; echo; }; x; x >&2; echo again >>` + starts + `; exit 1`)
	if err := unix.Kill(g.enginePID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.until("eight starts", func() bool {
		text, _ := os.ReadFile(starts)
		return strings.Count(string(text), "again") >= 8
	})
	g.stop()
	for _, path := range []string{filepath.Join(g.layout.State, "engine.log"), fake.LogFile(g.layout)} {
		if info, err := os.Stat(path); err != nil || info.Size() > 8<<20 {
			t.Errorf("%s: %v, %d bytes", filepath.Base(path), err, info.Size())
		}
	}
}

func TestAgentEndsAndEngineGoesOn(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	pid := g.enginePID()
	g.stop()
	if g.enginePID() != pid {
		t.Fatal("the engine is another one")
	}
	g.start()
	g.until("healthy again", func() bool { s := g.agent.Service(); return s.Up && s.PID == pid })
	// An adopted engine's end is noticed too.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.until("a new process", func() bool { s := g.agent.Service(); return s.Up && s.PID != pid && s.PID != 0 })
}

func TestStopStaysStopped(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	pid := g.enginePID()
	if end := g.long(guestapi.CmdStop, "op/stop", nil); end.State != guestapi.StateDone {
		t.Fatalf("stop ended with %+v", end)
	}
	g.untilService(trove.ServiceShutdown)
	if unix.Kill(pid, 0) == nil {
		t.Error("the engine still runs")
	}
	g.stop()
	g.start()
	beats := len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat))
	g.until("heartbeats", func() bool { return len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)) > beats+5 })
	if s := g.agent.Service(); s.Status != trove.ServiceShutdown || s.PID != 0 {
		t.Errorf("after a new start of the agent the service is %+v", s)
	}
	_, fail := ask[any](g, guestapi.CmdListUsers, "1", nil)
	if fail == nil || fail.Kind != trove.KindUnavailable || !strings.Contains(fail.Message, "shutdown") {
		t.Errorf("a question to a stopped engine was answered with %+v", fail)
	}
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateDone {
		t.Fatalf("restart ended with %+v", end)
	}
	g.untilService(trove.ServiceHealthy)
}

func TestRestartIsAnotherProcess(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	old := g.enginePID()
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateDone {
		t.Fatalf("restart ended with %+v", end)
	}
	if g.enginePID() == old {
		t.Error("it is the same process")
	}
	for _, h := range received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat) {
		if h.Event != "" || h.Service == trove.ServiceCrashed {
			t.Errorf("a restart was reported as %+v", h)
		}
	}
}

func TestMachineStartBringsTheEngineUp(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	g.stop()
	// The machine went down: the process is gone, the pid file too, because the runtime directory is a tmpfs.
	if err := unix.Kill(g.enginePID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.until("the engine is gone", func() bool { ref, err := g.engineRef(); return err != nil || !ref.Alive() })
	g.start()
	g.untilService(trove.ServiceHealthy)
}

// unhurried is an engine that is not killed, however long its stop takes.
type unhurried struct{ *fake.Engine }

func (e unhurried) Info() engine.Info {
	i := e.Engine.Info()
	i.StopTimeout = time.Hour
	return i
}

// TestStopOfAnEngineThatJustStarts: a server hears no signal before it has come so far, and the one that was lost is not waited for.
func TestStopOfAnEngineThatJustStarts(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = unhurried{g.fake}
	g.prepared()
	g.fake.RunScript("trap '' TERM; up; sleep 0.5; trap - TERM; exec sleep 1000")
	for range 2 { // the first restart starts the deaf one, the second one meets it
		if end := g.long(guestapi.CmdRestart, "op/"+trove.NewID(), nil); end.State != guestapi.StateDone {
			t.Fatalf("restart ended with %+v", end)
		}
	}
}
