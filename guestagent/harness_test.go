package guestagent_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

const patience = time.Minute // how long a test waits for what must come

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(runRole()) //nolint:forbidigo // this is the main function of a test's own program
	}
	goleak.VerifyTestMain(m)
}

// fast are times that a test can wait for.
func fast() guestagent.Timings {
	return guestagent.Timings{
		Heartbeat: 50 * time.Millisecond, Progress: -1, PingHealthy: 20 * time.Millisecond, PingOther: 10 * time.Millisecond,
		PingTimeout: 500 * time.Millisecond, StopAfterStart: 2 * time.Second, StartPoll: 5 * time.Millisecond, StartTimeout: patience,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond, BackoffReset: time.Minute,
		ResendMin: 40 * time.Millisecond, ResendMax: 100 * time.Millisecond, GrowTimeout: 100 * time.Millisecond,
	}
}

// guest is the machine of one agent, and a controller at the other end of its bus.
type guest struct {
	t      *testing.T
	id     string
	layout engine.Layout
	fake   *fake.Engine
	cfg    guestagent.Config
	broker *membus.Broker
	ctl    bus.Conn

	agent     *guestagent.Agent
	connected func()
	stop      func()

	mu      sync.Mutex
	reports map[guestapi.ReportKind][]json.RawMessage
	news    chan struct{}
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := newMachine(t)
	g.broker = membus.New()
	g.ctl = g.broker.Conn("controller")
	t.Cleanup(func() { _ = g.broker.Close() })
	g.listen()
	g.cfg = guestagent.Config{
		Instance: g.id, BootID: "boot-1", Version: "1.2.3", Engine: g.fake, Layout: g.layout,
		Connect: func(_ context.Context, connected func()) (bus.Conn, error) {
			g.connected = connected
			connected()
			return g.broker.Conn("guest"), nil
		},
		Timings: fast(), Clock: clock.System{}, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	return g
}

// newMachine makes the directories of a guest. A socket's path must be short, so they are not in the test's own directory.
func newMachine(t *testing.T) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{
		t: t, id: trove.NewID(), fake: fake.New(), reports: map[guestapi.ReportKind][]json.RawMessage{}, news: make(chan struct{}, 1),
		layout: engine.Layout{
			Data: filepath.Join(dir, "data"), Runtime: filepath.Join(dir, "run"), State: filepath.Join(dir, "data/trove"),
			UID: os.Getuid(), GID: os.Getgid(),
		},
	}
	for _, d := range []string{g.layout.State, g.layout.Runtime} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if ref, err := g.engineRef(); err == nil && ref.Alive() {
			_ = unix.Kill(-ref.PID, unix.SIGKILL)
		}
		_ = os.RemoveAll(dir)
	})
	return g
}

// listen collects what the guest reports.
func (g *guest) listen() {
	g.t.Helper()
	_, err := g.ctl.Subscribe(context.Background(), guestapi.AllReports, guestapi.QueueConductor, func(_ context.Context, m bus.Message) {
		g.mu.Lock()
		kind := guestapi.ReportKind(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
		g.reports[kind] = append(g.reports[kind], m.Data)
		g.mu.Unlock()
		select {
		case g.news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// start runs the agent in this process.
func (g *guest) start() {
	g.t.Helper()
	a, err := guestagent.New(g.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	g.agent = a
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				g.t.Errorf("the agent ended with %v", err)
			}
		})
	}
	g.t.Cleanup(g.stop)
	g.until("the agent listens", func() bool { return g.broker.Listening(guestapi.CommandSubject(g.id)) })
}

// until waits for a condition, looking again after each report and every few milliseconds.
func (g *guest) until(what string, ok func() bool) {
	g.t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-g.news:
		case <-time.After(2 * time.Millisecond):
		case <-deadline:
			g.t.Fatalf("waited %s for: %s; the service is %+v", patience, what, g.lastHeartbeat())
		}
	}
}

// ask gives a command and returns the answer's result, decoded.
func ask[T any](g *guest, c guestapi.Command, id string, args any) (T, *guestapi.Failure) {
	g.t.Helper()
	data, err := json.Marshal(args)
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := json.Marshal(guestapi.Request{V: guestapi.Version, ID: id, Command: c, Args: data, RequestID: "req-test"})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := g.ctl.Request(ctx, guestapi.CommandSubject(g.id), req)
	if err != nil {
		g.t.Fatalf("%s: %v", c, err)
	}
	var resp guestapi.Response
	var result T
	if err := json.Unmarshal(answer, &resp); err != nil {
		g.t.Fatalf("%s: %v", c, err)
	}
	if resp.Error == nil && len(resp.Result) > 0 {
		if err := json.Unmarshal(resp.Result, &result); err != nil {
			g.t.Fatalf("%s: %v", c, err)
		}
	}
	return result, resp.Error
}

// long gives a long command and waits for its end with status.
func (g *guest) long(c guestapi.Command, id string, args any) guestapi.OperationStatus {
	g.t.Helper()
	if _, fail := ask[guestapi.OperationStatus](g, c, id, args); fail != nil {
		g.t.Fatalf("%s was refused: %+v", c, fail)
	}
	return g.await(id)
}

func (g *guest) await(id string) guestapi.OperationStatus {
	g.t.Helper()
	var s guestapi.OperationStatus
	g.until("the end of "+id, func() bool {
		s, _ = ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "s", guestapi.StatusArgs{ID: id})
		return s.State != guestapi.StateRunning
	})
	return s
}

func (g *guest) prepared() {
	g.t.Helper()
	g.start()
	if end := g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs()); end.State != guestapi.StateDone {
		g.t.Fatalf("prepare ended with %+v", end)
	}
}

// preparedUnasked is prepared by an end that the guest reports: one that somebody has asked for is not reported any more.
func (g *guest) preparedUnasked() {
	g.t.Helper()
	g.start()
	if _, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs()); fail != nil {
		g.t.Fatalf("prepare was refused: %+v", fail)
	}
	g.until("the end report", func() bool { return len(received[guestapi.OperationStatus](g, guestapi.ReportEnd)) > 0 })
}

func prepareArgs() guestapi.PrepareArgs {
	return guestapi.PrepareArgs{
		ServerID: 7, RAM: 512, VCPUs: 1, Databases: []trove.Database{{Name: "shop"}},
		Users: []guestapi.UserArgs{{Name: "anna", Password: secretWord, Databases: []string{"shop"}}},
	}
}

const secretWord = "geheim-8271"

func (g *guest) lastHeartbeat() guestapi.Heartbeat {
	all := received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)
	if len(all) == 0 {
		return guestapi.Heartbeat{}
	}
	return all[len(all)-1]
}

func received[T any](g *guest, kind guestapi.ReportKind) []T {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []T
	for _, raw := range g.reports[kind] {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			g.t.Fatalf("report %s: %v", raw, err)
		}
		all = append(all, v)
	}
	return all
}

func (g *guest) untilService(s trove.ServiceStatus) {
	g.t.Helper()
	g.until("service "+string(s), func() bool { return g.lastHeartbeat().Service == s })
}

func (g *guest) engineRef() (process.Ref, error) {
	return process.ReadFile(filepath.Join(g.layout.Runtime, guestagent.PIDFile))
}

func (g *guest) enginePID() int {
	g.t.Helper()
	ref, err := g.engineRef()
	if err != nil || !ref.Alive() {
		g.t.Fatalf("the engine does not run: %+v, %v", ref, err)
	}
	return ref.PID
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
