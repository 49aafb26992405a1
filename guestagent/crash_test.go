package guestagent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// forEver is longer than any test.
const forEver = time.Hour

func TestKillInTheMiddleOfPrepare(t *testing.T) {
	g := newGuest(t)
	socket := g.serveWire()
	first := g.spawn(socket, forEver)
	if s, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs()); fail != nil || s.State != guestapi.StateRunning {
		t.Fatalf("prepare was answered with %+v, %+v", s, fail)
	}
	g.until("it is under way", func() bool {
		s, _ := ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "1", guestapi.StatusArgs{ID: "op/prepare"})
		return s.Percent == 40
	})
	first.end(unix.SIGKILL)
	g.spawn(socket, 0)
	g.until("the end is reported, while nobody asks", func() bool {
		all := received[guestapi.OperationStatus](g, guestapi.ReportEnd)
		return len(all) > 0 && all[0].ID == "op/prepare" && all[0].State == guestapi.StateDone
	})
	if end := g.await("op/prepare"); end.State != guestapi.StateDone {
		t.Fatalf("prepare ended with %+v", end)
	}
	users, fail := ask[[]trove.User](g, guestapi.CmdListUsers, "2", nil)
	if fail != nil || len(users) != 1 {
		t.Errorf("users are %+v, %+v", users, fail)
	}
}

func TestMachineStartInTheMiddleOfPrepareIsUnknown(t *testing.T) {
	g := newGuest(t)
	socket := g.serveWire()
	first := g.spawn(socket, forEver)
	if _, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs()); fail != nil {
		t.Fatal(fail)
	}
	first.end(unix.SIGKILL)
	// The runtime directory is a tmpfs: it goes with the machine.
	if err := os.RemoveAll(filepath.Join(g.layout.Runtime, "commands")); err != nil {
		t.Fatal(err)
	}
	g.spawn(socket, 0)
	if s := g.await("op/prepare"); s.State != guestapi.StateUnknown {
		t.Errorf("status is %+v", s)
	}
	if end := g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs()); end.State != guestapi.StateDone {
		t.Errorf("given again it ended with %+v", end)
	}
}

func TestKillOfTheAgentCostsTheEngineNothing(t *testing.T) {
	g := newGuest(t)
	socket := g.serveWire()
	agent := g.spawn(socket, 0)
	if end := g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs()); end.State != guestapi.StateDone {
		t.Fatalf("prepare ended with %+v", end)
	}
	pid := g.enginePID()
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGKILL} {
		agent.end(sig)
		agent = g.spawn(socket, 0)
		g.untilHealthyAgain()
		if now := g.enginePID(); now != pid {
			t.Fatalf("after %v the engine is process %d, it was %d", sig, now, pid)
		}
	}
	if s, _ := ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "1", guestapi.StatusArgs{ID: "op/prepare"}); s.State != guestapi.StateDone {
		t.Errorf("the journal says %+v", s)
	}
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateDone {
		t.Errorf("restart of an adopted engine ended with %+v", end)
	}
	if g.enginePID() == pid {
		t.Error("the adopted engine was not restarted")
	}
}

// untilHealthyAgain waits for a heartbeat that is newer than this call.
func (g *guest) untilHealthyAgain() {
	g.t.Helper()
	before := len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat))
	g.until("a new heartbeat that says healthy", func() bool {
		all := received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)
		return len(all) > before && all[len(all)-1].Service == trove.ServiceHealthy
	})
}

// An agent that dies between the start of the engine and its pid file leaves a mark, and an engine that the next one must find by its looks.
func TestEngineWithoutPIDFileIsFound(t *testing.T) {
	g := newGuest(t)
	g.fake.RunScript("up; while :; do sleep 1; done") // a shell keeps its command line
	g.prepared()
	g.stop()
	pid := g.enginePID()
	if err := os.Rename(filepath.Join(g.layout.Runtime, "engine.pid"), filepath.Join(g.layout.Runtime, "engine.launching")); err != nil {
		t.Fatal(err)
	}
	g.start()
	g.until("the engine is up", func() bool { return g.agent.Service().Up })
	if s := g.agent.Service(); s.PID != pid {
		t.Errorf("the agent has process %d, the engine is %d", s.PID, pid)
	}
	if g.enginePID() != pid {
		t.Error("the pid file names another process")
	}
}

// A pid file names a process by its start too: another process with the id is left alone.
func TestStrangerIsNotAdopted(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	g.long(guestapi.CmdStop, "op/stop", nil)
	g.stop()
	stranger := exec.Command("sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	pidFile := filepath.Join(g.layout.Runtime, "engine.pid")
	text := strings.Join([]string{strconv.Itoa(stranger.Process.Pid), "1", "1"}, " ")
	if err := os.WriteFile(pidFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	g.long(guestapi.CmdRestart, "op/restart", nil)
	if s := g.agent.Service(); s.PID == stranger.Process.Pid || !s.Up {
		t.Errorf("the service is %+v", s)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was ended: %v", err)
	}
}
