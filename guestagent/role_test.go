package guestagent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/internal/clock"
)

// roleVariable makes this test's own binary an agent that a test can kill: its value is a role as JSON.
const roleVariable = "GUESTAGENT_TEST_ROLE"

// role is an agent in a process of its own.
type role struct {
	Instance string
	Layout   engine.Layout
	Socket   string        // of the test's end of the bus
	Slow     time.Duration // how long Prepare takes
}

// slowEngine is a fake whose Prepare takes its time.
type slowEngine struct {
	*fake.Engine
	slow time.Duration
}

func (e slowEngine) Prepare(ctx context.Context, l engine.Layout, p engine.Preparation) error {
	if err := clock.Sleep(ctx, e.slow); err != nil {
		return err
	}
	return e.Engine.Prepare(ctx, l, p)
}

// roleNotify makes it an engine that announces itself.
const roleNotify = "notify"

func announce() int {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		_, err = conn.Write([]byte("STATUS=nearly\nREADY=1\n"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = clock.Sleep(context.Background(), forEver)
	return 0
}

func runRole() int {
	if os.Getenv(roleVariable) == roleNotify {
		return announce()
	}
	var r role
	if err := json.Unmarshal([]byte(os.Getenv(roleVariable)), &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	a, err := guestagent.New(guestagent.Config{
		Instance: r.Instance, BootID: "boot-1", Version: "1.2.3", Engine: slowEngine{fake.New(), r.Slow}, Layout: r.Layout, Timings: fast(),
		Connect: func(_ context.Context, connected func()) (bus.Conn, error) { connected(); return dialWire(r.Socket) },
		Clock:   clock.System{}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err == nil {
		err = a.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// frame is one message of the wire between a test and the agent's process.
type frame struct {
	Subject string
	ID      int `json:",omitempty"` // of a request and its answer
	Data    []byte
}

// wire is the agent's end: a bus over one socket.
type wire struct {
	conn net.Conn

	mu   sync.Mutex
	enc  *json.Encoder
	done chan struct{}
}

var _ bus.Conn = (*wire)(nil)

func dialWire(socket string) (bus.Conn, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, enc: json.NewEncoder(conn), done: make(chan struct{})}, nil
}

func (w *wire) send(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enc.Encode(f)
}

func (w *wire) Publish(_ context.Context, subject string, data []byte) error {
	return w.send(frame{Subject: subject, Data: data})
}

func (w *wire) Request(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("a guest does not ask")
}

func (w *wire) Subscribe(ctx context.Context, subject, _ string, h bus.Handler) (func(), error) {
	go func() {
		defer close(w.done)
		for dec := json.NewDecoder(w.conn); ; {
			var f frame
			if dec.Decode(&f) != nil {
				return
			}
			h(ctx, bus.NewMessage(subject, f.Data, func(_ context.Context, data []byte) error {
				return w.send(frame{ID: f.ID, Data: data})
			}))
		}
	}()
	return func() { _ = w.conn.Close(); <-w.done }, w.send(frame{Subject: "subscribed"})
}

func (w *wire) Close() error { _ = w.conn.Close(); return nil }

// agentProcess is a running agent.
type agentProcess struct {
	g   *guest
	cmd *exec.Cmd
	out chan struct{}
}

// serveWire joins agents that come over a socket to the guest's bus, one after another.
func (g *guest) serveWire() string {
	g.t.Helper()
	socket := filepath.Join(g.layout.Runtime, "bus")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		g.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			g.relay(conn)
		}
	})
	g.t.Cleanup(func() { _ = ln.Close(); serving.Wait() })
	return socket
}

// relay carries messages until the agent's process ends.
func (g *guest) relay(conn net.Conn) {
	defer conn.Close()
	b := g.broker.Conn("guest")
	defer func() { _ = b.Close() }()
	var mu sync.Mutex
	next, answers := 0, map[int]bus.Message{}
	enc, dec := json.NewEncoder(conn), json.NewDecoder(conn)
	ctx := context.Background()
	for {
		var f frame
		if dec.Decode(&f) != nil {
			return
		}
		switch {
		case f.Subject == "subscribed":
			_, err := b.Subscribe(ctx, "trove.v1.guest."+g.id+".cmd", "", func(_ context.Context, m bus.Message) {
				mu.Lock()
				defer mu.Unlock()
				next++
				answers[next] = m
				_ = enc.Encode(frame{ID: next, Data: m.Data})
			})
			if err != nil {
				return
			}
		case f.ID != 0:
			mu.Lock()
			m := answers[f.ID]
			delete(answers, f.ID)
			mu.Unlock()
			_ = m.Reply(ctx, f.Data)
		default:
			_ = b.Publish(ctx, f.Subject, f.Data)
		}
	}
}

// spawn starts an agent in a process of its own and waits until it listens.
func (g *guest) spawn(socket string, slow time.Duration) *agentProcess {
	g.t.Helper()
	data, err := json.Marshal(role{Instance: g.id, Layout: g.layout, Socket: socket, Slow: slow})
	if err != nil {
		g.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	p := &agentProcess{g: g, cmd: exec.Command(self), out: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+string(data), "GORACE=atexit_sleep_ms=0")
	log, err := os.OpenFile(filepath.Join(g.layout.State, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() {
		defer close(p.out)
		_ = p.cmd.Wait() // how it ended is what the signal did
	}()
	g.t.Cleanup(func() {
		p.end(unix.SIGKILL)
		if text, err := os.ReadFile(log.Name()); err == nil && g.t.Failed() {
			g.t.Logf("the agents said:\n%s", text)
		}
	})
	g.until("the agent's process listens", func() bool { return g.broker.Listening("trove.v1.guest." + g.id + ".cmd") })
	return p
}

// end sends a signal and waits for the process to be gone and off the bus.
func (p *agentProcess) end(sig unix.Signal) {
	if p.out == nil {
		return
	}
	_ = unix.Kill(p.cmd.Process.Pid, sig)
	<-p.out
	p.out = nil
	p.g.until("the agent is off the bus", func() bool { return !p.g.broker.Listening("trove.v1.guest." + p.g.id + ".cmd") })
}
