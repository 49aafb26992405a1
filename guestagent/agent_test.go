package guestagent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

func TestPrepareBringsTheEngineUp(t *testing.T) {
	g := newGuest(t)
	g.preparedUnasked()
	g.untilService(trove.ServiceHealthy)
	users, fail := ask[[]trove.User](g, guestapi.CmdListUsers, "1", nil)
	if fail != nil {
		t.Fatal(fail)
	}
	want := []trove.User{{Name: "anna", Host: "%", Databases: []string{"shop"}}}
	if d := cmp.Diff(want, users); d != "" {
		t.Error("users (-want +got):\n" + d)
	}
	hellos := received[guestapi.Hello](g, guestapi.ReportHello)
	if len(hellos) == 0 || hellos[0].Prepared || hellos[0].Engine != "fake" || hellos[0].AgentVersion != "1.2.3" ||
		!slices.Contains(hellos[0].Commands, guestapi.CmdPrepare) || !slices.Contains(hellos[0].Commands, guestapi.CmdGrant) {
		t.Errorf("hello is %+v", hellos)
	}
	end := received[guestapi.OperationStatus](g, guestapi.ReportEnd)[0]
	if d := cmp.Diff(guestapi.OperationStatus{ID: "op/prepare", State: guestapi.StateDone, Sentence: "done", Percent: 100}, end); d != "" {
		t.Error("end (-want +got):\n" + d)
	}
	g.until("progress", func() bool { return len(received[guestapi.OperationStatus](g, guestapi.ReportProgress)) > 0 })
}

func TestHeartbeatContent(t *testing.T) {
	g := newGuest(t)
	g.start()
	g.untilService(trove.ServiceBuilding)
	g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs())
	g.untilService(trove.ServiceHealthy)
	h := g.lastHeartbeat()
	if h.BootID != "boot-1" || h.AgentVersion != "1.2.3" || h.EngineStart == 0 || h.VolumeTotal <= 0 || h.VolumeUsed <= 0 || h.VolumeUsed > h.VolumeTotal {
		t.Errorf("heartbeat is %+v", h)
	}
	g.until("ten heartbeats", func() bool { return len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)) >= 10 })
	last := int64(0)
	for _, h := range received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat) {
		if h.Seq <= last {
			t.Fatalf("sequence number %d came after %d", h.Seq, last)
		}
		last = h.Seq
	}
}

func TestSecretsAreNotOnTheVolume(t *testing.T) {
	g := newGuest(t)
	g.fake.RunScript("up; exec sleep 1000") // the command below waits behind this one
	g.prepared()
	g.stop() // it still notes what the controller knows, in files that come and go
	err := filepath.WalkDir(filepath.Dir(g.layout.State), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), secretWord) {
			t.Errorf("%s holds a password", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(g.layout.Runtime, "commands"))
	if err != nil || len(left) != 0 {
		t.Errorf("arguments of ended commands are kept: %v, %v", left, err)
	}
}

func TestStartTwiceIsOnce(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	again, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs())
	if fail != nil || again.State != guestapi.StateDone {
		t.Errorf("the second start was answered with %+v, %+v", again, fail)
	}
	if n := g.fake.Calls(fake.OpPrepare); n != 1 {
		t.Errorf("prepare ran %d times", n)
	}
	_, fail = ask[guestapi.OperationStatus](g, guestapi.CmdRestart, "op/prepare", nil)
	if fail == nil || fail.Kind != trove.KindConflict {
		t.Errorf("another command under a known id was answered with %+v", fail)
	}
}

func TestStatusOfUnknown(t *testing.T) {
	g := newGuest(t)
	g.start()
	s, fail := ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "1", guestapi.StatusArgs{ID: "never/given"})
	if fail != nil || s.State != guestapi.StateUnknown || s.ID != "never/given" {
		t.Errorf("status is %+v, %+v", s, fail)
	}
}

func TestEndIsSentUntilKnown(t *testing.T) {
	g := newGuest(t)
	g.start()
	g.broker.DropMessage(guestapi.ReportSubject(g.id, guestapi.ReportEnd), 1)
	if _, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs()); fail != nil {
		t.Fatal(fail)
	}
	ends := func() int { return len(received[guestapi.OperationStatus](g, guestapi.ReportEnd)) }
	g.until("the end three times, the first of four lost", func() bool { return ends() >= 3 })
	g.await("op/prepare")
	// What is known is not sent any more: five further heartbeats come without an end, after one that may have been on its way.
	g.until("quiet", func() bool {
		before, beats := ends(), len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat))
		g.until("heartbeats", func() bool { return len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)) >= beats+5 })
		return ends() == before
	})
}

func TestHelloAfterReconnect(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	before := len(received[guestapi.Hello](g, guestapi.ReportHello))
	g.connected()
	g.until("another hello", func() bool { return len(received[guestapi.Hello](g, guestapi.ReportHello)) > before })
	if h := received[guestapi.Hello](g, guestapi.ReportHello); !h[len(h)-1].Prepared {
		t.Error("hello does not say that the guest is prepared")
	}
}

// deaf is an engine that answers no ping while the switch is on.
type deaf struct {
	*fake.Engine
	on *atomic.Bool
}

func (e deaf) Ping(ctx context.Context, l engine.Layout) error {
	if e.on.Load() {
		return trove.Errorf(trove.KindUnavailable, "The database server does not answer.")
	}
	return e.Engine.Ping(ctx, l)
}

// deafen makes the guest's engine deaf.
func (g *guest) deafen() *atomic.Bool {
	on := &atomic.Bool{}
	on.Store(true)
	g.cfg.Engine = deaf{g.fake, on}
	return on
}

func TestEngineThatNeverGetsReady(t *testing.T) {
	g := newGuest(t)
	g.deafen()
	g.cfg.Timings.StartTimeout = testShort
	g.fake.RunScript("echo 'recovering page 17' >&2; up; exec sleep 1000")
	g.start()
	var end guestapi.OperationStatus
	for n := range 10 { // a busy machine does not let the server come to its words in so short a time
		end = g.long(guestapi.CmdPrepare, fmt.Sprintf("op%d/prepare", n), prepareArgs())
		if end.Error == nil || strings.Contains(end.Error.Message, "recovering page 17") {
			break
		}
	}
	if end.State != guestapi.StateFailed || end.Error == nil || !strings.Contains(end.Error.Message, "did not get ready") ||
		!strings.Contains(end.Error.Message, "recovering page 17") {
		t.Errorf("prepare ended with %+v %+v", end, end.Error)
	}
	if ref, err := g.engineRef(); err == nil && ref.Alive() {
		t.Error("the engine was left running")
	}
}

func TestEngineThatEndsAtItsStart(t *testing.T) {
	g := newGuest(t)
	switchedOn := g.deafen()
	g.fake.RunScript("echo 'cannot open the log' >&2; sleep 0.1; exit 3")
	g.start()
	end := g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs())
	if end.State != guestapi.StateFailed || !strings.Contains(end.Error.Message, "exit status 3") || !strings.Contains(end.Error.Message, "cannot open the log") {
		t.Errorf("prepare ended with %+v %+v", end, end.Error)
	}
	if hello := g.agent.Service(); hello.Status != trove.ServiceBuilding {
		t.Errorf("the service is %+v", hello)
	}
	g.fake.RunScript("")
	switchedOn.Store(false)
	if end := g.long(guestapi.CmdPrepare, "op2/prepare", prepareArgs()); end.State != guestapi.StateDone {
		t.Errorf("the next prepare ended with %+v", end)
	}
}

// TestACommandThatWasWithdrawnIsNotBegun, however late it comes; and nobody is told of the end of what took its id.
func TestACommandThatWasWithdrawnIsNotBegun(t *testing.T) {
	g := newGuest(t)
	grown := 0
	g.cfg.Grow = func() (int64, error) { grown++; return 0, errors.New("no right") }
	g.prepared()
	pid := g.enginePID()
	client := guestapi.NewClient(g.ctl)
	for range 2 {
		if begun, err := client.Withdraw(t.Context(), g.id, "op/stop"); begun || err != nil {
			t.Fatalf("begun %t, %v", begun, err)
		}
		g.await("op/stop")
	}
	if _, fail := ask[guestapi.OperationStatus](g, guestapi.CmdStop, "op/stop", nil); fail == nil || fail.Kind != trove.KindConflict {
		t.Errorf("the command that came late was answered with %+v", fail)
	}
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateDone {
		t.Errorf("the next command ended with %+v", end)
	}
	if begun, err := client.Withdraw(t.Context(), g.id, "op/restart"); !begun || err != nil {
		t.Errorf("a command that was carried out: begun %t, %v", begun, err)
	}
	if g.enginePID() == pid || grown > 0 {
		t.Errorf("the engine was not restarted, or the file system was touched: %d", grown)
	}
	for _, end := range received[guestapi.OperationStatus](g, guestapi.ReportEnd) {
		if end.ID == "op/stop" {
			t.Errorf("reported: %+v", end)
		}
	}
}
