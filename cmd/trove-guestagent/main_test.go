package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

const patience = 2 * time.Minute // a busy machine may take half a minute for the first start of a real server

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes the program as a release does.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "trove-guestagent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=9.8.7", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// guests is the broker's knowledge of one guest.
type guests struct {
	id, hash string
	mu       sync.Mutex
	key      string
}

func (g *guests) UseEnrolmentToken(_ context.Context, hash, key string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if hash != g.hash {
		return "", trove.Errorf(trove.KindUnauthorized, "unknown")
	}
	if g.key != "" && g.key != key {
		return "", trove.Errorf(trove.KindConflict, "used")
	}
	g.key = key
	return g.id, nil
}

func (g *guests) TokenOwner(_ context.Context, hash string) (string, error) {
	if hash != g.hash {
		return "", trove.Errorf(trove.KindNotFound, "unknown")
	}
	return g.id, nil
}

func (g *guests) GuestKey(context.Context, string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.key, nil
}

func (g *guests) CredentialIssued(context.Context, string, time.Time, string) error { return nil }

// deployment is a broker, a controller and the directories of one guest.
type deployment struct {
	t       *testing.T
	dir     string
	id      string
	address string // of the engine: one of this run alone
	broker  *server.Server
	guests  *guests
	ctl     bus.Conn

	mu         sync.Mutex
	hellos     []guestapi.Hello
	heartbeats []guestapi.Heartbeat
}

func deploy(t *testing.T, engine string) *deployment {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The engine's account must get to its directory.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	d := &deployment{t: t, dir: dir, id: trove.NewID(), address: fmt.Sprintf("127.77.%d.%d", pid>>8&0xff, max(pid&0xff, 1))}
	token := trove.NewID()
	d.guests = &guests{id: d.id, hash: bus.HashToken(trove.Secret(token))}
	d.broker, err = server.Start(t.Context(), server.Config{
		Keys: keyfile.Dir(t.TempDir()), Listen: "127.0.0.1:0", EnrolListen: "127.0.0.1:0", Repository: server.NewMemoryRepository(),
		Guests: d.guests, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.broker.Close() })
	if d.ctl, err = d.broker.Conn(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	_, err = d.ctl.Subscribe(t.Context(), guestapi.AllReports, guestapi.QueueConductor, d.note)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := json.Marshal(bus.BootData{
		Instance: d.id, Engine: engine, Token: token, EnrolURLs: d.broker.EnrolURLs(), CABundle: d.broker.CABundle(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "boot.json"), boot, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deployment) note(_ context.Context, m bus.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case strings.HasSuffix(m.Subject, ".hello"):
		var h guestapi.Hello
		_ = json.Unmarshal(m.Data, &h) // what is wrong is missed by who waits for it
		d.hellos = append(d.hellos, h)
	case strings.HasSuffix(m.Subject, ".hb"):
		var h guestapi.Heartbeat
		_ = json.Unmarshal(m.Data, &h)
		d.heartbeats = append(d.heartbeats, h)
	}
}

func (d *deployment) seen() (hellos int, last guestapi.Heartbeat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.heartbeats); n > 0 {
		last = d.heartbeats[n-1]
	}
	return len(d.hellos), last
}

func (d *deployment) until(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			d.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// boot starts init, which starts the agent.
func (d *deployment) boot(bin, account string) *exec.Cmd {
	d.t.Helper()
	run := filepath.Join(d.dir, "run")
	cmd := exec.Command(bin, "init", "--agent", bin, "--run", run, "--subreaper", "--",
		"--boot", filepath.Join(d.dir, "boot.json"), "--data", filepath.Join(d.dir, "data"), "--run", run, "--user", account, "--address", d.address)
	log, err := os.OpenFile(filepath.Join(d.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	d.t.Cleanup(func() {
		_ = unix.Kill(cmd.Process.Pid, unix.SIGTERM)
		<-done
		if d.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			d.t.Logf("the console:\n%s", text)
		}
	})
	return cmd
}

func (d *deployment) ask(c guestapi.Command, id string, args, result any) {
	d.t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := json.Marshal(guestapi.Request{V: guestapi.Version, ID: id, Command: c, Args: data})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := d.ctl.Request(ctx, guestapi.CommandSubject(d.id), req)
	var resp guestapi.Response
	if err == nil {
		err = json.Unmarshal(answer, &resp)
	}
	if err == nil && resp.Error == nil {
		err = json.Unmarshal(resp.Result, result)
	}
	if err != nil || resp.Error != nil {
		d.t.Fatalf("%s: %v, %+v", c, err, resp.Error)
	}
}

func (d *deployment) enginePID() int {
	d.t.Helper()
	ref, err := process.ReadFile(filepath.Join(d.dir, "run/engine.pid"))
	if err != nil || !ref.Alive() {
		d.t.Fatalf("the engine does not run: %v", err)
	}
	return ref.PID
}

// agentPID returns the child of init that is the agent: the engine is its other child once an agent has died.
func (d *deployment) agentPID(init int) int {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(init), "task/*/children"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		for id := range strings.FieldsSeq(string(data)) {
			line, err := os.ReadFile(filepath.Join("/proc", id, "cmdline"))
			if err != nil || !strings.Contains(string(line), "\x00agent\x00") {
				continue
			}
			pid, err := strconv.Atoi(id)
			if err != nil {
				d.t.Fatal(err)
			}
			return pid
		}
	}
	d.t.Fatal("no agent runs")
	return 0
}

// residentKiB returns the memory of a process that is in the machine's memory.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

const (
	maxResidentKiB = 20 << 10 // of init and agent together, at rest
	maxInitKiB     = 6 << 10
)

func TestLifeOfAGuest(t *testing.T) {
	bin := build(t)
	d := deploy(t, "fake")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	first := d.boot(bin, me.Username)
	d.until("hello", func() bool { n, _ := d.seen(); return n > 0 })
	if h := d.hellos[0]; h.AgentVersion != "9.8.7" || h.Engine != "fake" || h.BootID == "" {
		t.Errorf("hello is %+v", h)
	}
	var s guestapi.OperationStatus
	args := guestapi.PrepareArgs{ServerID: 1, RAM: 512, VCPUs: 1, Databases: []trove.Database{{Name: "shop"}}}
	d.ask(guestapi.CmdPrepare, "op/prepare", args, &s)
	d.until("healthy", func() bool { _, h := d.seen(); return h.Service == trove.ServiceHealthy })
	d.until("the end of prepare", func() bool {
		d.ask(guestapi.CmdStatus, "1", guestapi.StatusArgs{ID: "op/prepare"}, &s)
		return s.State == guestapi.StateDone
	})
	engine, agent := d.enginePID(), d.agentPID(first.Process.Pid)
	d.until("init and agent at rest, with at most 20 MiB together", func() bool {
		return residentKiB(t, first.Process.Pid)+residentKiB(t, agent) <= maxResidentKiB && residentKiB(t, first.Process.Pid) <= maxInitKiB
	})
	t.Logf("resident: init %d KiB, agent %d KiB", residentKiB(t, first.Process.Pid), residentKiB(t, agent))
	hellos, _ := d.seen()
	if err := unix.Kill(agent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.until("hello of the next agent", func() bool { n, h := d.seen(); return n > hellos && h.Service == trove.ServiceHealthy })
	if now := d.enginePID(); now != engine {
		t.Errorf("the engine is process %d, it was %d", now, engine)
	}
	d.stopMachine(first)
	d.boot(bin, me.Username)
	d.until("a healthy engine on a machine that was started again", func() bool {
		_, h := d.seen()
		return h.Service == trove.ServiceHealthy && h.EngineStart > 0 && d.engineAlive()
	})
	if d.enginePID() == engine {
		t.Error("it is the engine of before")
	}
}

// The same with a real server: its first start, its readiness, an agent that is killed, a machine that is stopped.
func TestLifeOfAMariaDBGuest(t *testing.T) {
	if _, err := exec.LookPath("mariadbd"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and MariaDB's server package: the server runs as an account of its own")
	}
	bin := build(t)
	d := deploy(t, "mariadb")
	first := d.boot(bin, "nobody")
	d.until("hello", func() bool { n, _ := d.seen(); return n > 0 })
	var s guestapi.OperationStatus
	d.ask(guestapi.CmdPrepare, "op/prepare", guestapi.PrepareArgs{
		ServerID: 1, RAM: 512, VCPUs: 1, Databases: []trove.Database{{Name: "shop"}},
		Users: []guestapi.UserArgs{{Name: "anna", Password: "Geheim-123", Databases: []string{"shop"}}},
	}, &s)
	d.until("the end of prepare", func() bool {
		d.ask(guestapi.CmdStatus, "1", guestapi.StatusArgs{ID: "op/prepare"}, &s)
		return s.State != guestapi.StateRunning
	})
	if s.State != guestapi.StateDone {
		t.Fatalf("prepare ended with %+v %+v", s, s.Error)
	}
	engine := d.enginePID()
	hellos, _ := d.seen()
	agent := d.agentPID(first.Process.Pid)
	t.Logf("resident: init %d KiB, agent %d KiB", residentKiB(t, first.Process.Pid), residentKiB(t, agent))
	if err := unix.Kill(agent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.until("hello of the next agent", func() bool { n, h := d.seen(); return n > hellos && h.Service == trove.ServiceHealthy })
	if now := d.enginePID(); now != engine {
		t.Errorf("the engine is process %d, it was %d", now, engine)
	}
	var users []trove.User
	d.ask(guestapi.CmdListUsers, "2", nil, &users)
	if len(users) != 1 || users[0].Name != "anna" || len(users[0].Databases) != 1 {
		t.Errorf("users are %+v", users)
	}
	d.ask(guestapi.CmdRestart, "op/restart", nil, &s)
	d.until("the end of restart", func() bool {
		d.ask(guestapi.CmdStatus, "3", guestapi.StatusArgs{ID: "op/restart"}, &s)
		return s.State == guestapi.StateDone
	})
	d.stopMachine(first)
}

func (d *deployment) engineAlive() bool {
	ref, err := process.ReadFile(filepath.Join(d.dir, "run/engine.pid"))
	return err == nil && ref.Alive()
}

// stopMachine sends SIGTERM to init and checks that nothing is left.
func (d *deployment) stopMachine(init *exec.Cmd) {
	d.t.Helper()
	if err := unix.Kill(init.Process.Pid, unix.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	d.until("the end of init", func() bool { _, err := process.Find(init.Process.Pid); return err != nil })
	if d.engineAlive() {
		d.t.Error("the engine outlived its machine")
	}
	if _, h := d.seen(); h.Event != "" {
		d.t.Errorf("a clean stop was reported as %q", h.Event)
	}
}

func TestInitialise(t *testing.T) {
	bin := build(t)
	dir := t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"initialise", "--engine", "fake", "--data", dir, "--run", filepath.Join(dir, "run"), "--user", me.Username}
	for _, want := range []string{"fake: done in", "fake: the data directory is there"} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("it said %q, %v, not %q", out, err, want)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	bin := build(t)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"", "usage:", 2},
		{"nonsense", `there is no command "nonsense"`, 2},
		{"agent --nonsense", "flag provided but not defined: -nonsense", 2},
		{"agent rest", `what does "rest" mean?`, 2},
		{"agent --boot /nowhere/boot.json", "read the boot data", 1},
		{"initialise", "--engine is needed", 2},
		{"initialise --engine nonsense", `There is no engine "nonsense"`, 1},
		{"initialise --engine fake --user nosuchaccount", "find the engine's account", 1},
		{"version", "trove-guestagent 9.8.7", 0},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd := exec.Command(bin, strings.Fields(c.args)...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
				t.Errorf("it ended with %d and %q", code, out)
			}
		})
	}
}
