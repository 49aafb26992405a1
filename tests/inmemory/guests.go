package inmemory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// Guests are the machines of a fake cloud: Boot and Halt are its hooks. In each runs a real agent, over engine/fake if nothing else is said.
type Guests struct {
	databases Databases
	networks  cloud.Networks // where databases that listen find their address
	dir       string
	store     store.Store
	broker    *membus.Broker
	objects   guestagent.Objects // nil: guests have no object store
	boots     atomic.Int64

	// Join is how a guest enrols and joins the bus, and Log what agents say; to be set before the first boot. nil: the bus in memory, and nothing.
	Join func(ctx context.Context, boot bus.BootData, state string, connected func()) (bus.Conn, error)
	Log  *slog.Logger

	mu      sync.Mutex
	running map[string]*guest
}

// guest is a machine between boot and halt.
type guest struct {
	instance string
	layout   engine.Layout
	cancel   context.CancelFunc
	done     chan struct{}
}

// NewGuests returns machines whose volumes are below dir, the path of which must be short: sockets are made there.
func NewGuests(dir string, st store.Store, broker *membus.Broker, objects guestagent.Objects) *Guests {
	return &Guests{databases: fakes(), dir: dir, store: st, broker: broker, objects: objects, running: map[string]*guest{}}
}

// Layout returns where the files of a running machine are, false if none runs.
func (g *Guests) Layout(instance string) (engine.Layout, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.running[instance]
	if !ok {
		return engine.Layout{}, false
	}
	return m.layout, true
}

// Boot starts the agent of the machine, which has joined the bus before.
func (g *Guests) Boot(instance string, data []byte) {
	g.Halt(instance)
	ctx, cancel := context.WithCancel(context.Background())
	dir := filepath.Join(g.dir, instance)
	m := &guest{instance: instance, cancel: cancel, done: make(chan struct{}), layout: engine.Layout{
		Data: filepath.Join(dir, "data"), Runtime: filepath.Join(dir, "run"), State: filepath.Join(dir, "data", "trove"),
		UID: g.databases.UID, GID: g.databases.UID, Address: g.address(instance),
	}}
	g.mu.Lock()
	g.running[instance] = m
	g.mu.Unlock()
	go func() {
		defer close(m.done)
		if err := g.agent(ctx, m, data); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the agent ended:", err)
		}
	}()
}

// timings are those of an agent, but for what nobody shall wait for.
func timings() guestagent.Timings {
	return guestagent.Timings{Progress: -1, StartPoll: 5 * time.Millisecond, ResendMin: time.Second, PingOther: 50 * time.Millisecond}
}

func (g *Guests) agent(ctx context.Context, m *guest, data []byte) error {
	if err := g.folders(m.layout); err != nil {
		return err
	}
	join, log := g.Join, g.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if join == nil {
		if err := g.enrol(ctx, m, data); err != nil {
			return err
		}
		join = func(_ context.Context, _ bus.BootData, _ string, connected func()) (bus.Conn, error) {
			connected()
			return g.broker.Conn("guest"), nil
		}
	}
	var boot bus.BootData
	if err := json.Unmarshal(data, &boot); err != nil {
		return err
	}
	a, err := guestagent.New(guestagent.Config{
		Instance: m.instance, BootID: fmt.Sprintf("boot-%d", g.boots.Add(1)), Version: "1", Engine: g.databases.New(), Layout: m.layout,
		Connect: func(ctx context.Context, connected func()) (bus.Conn, error) {
			return join(ctx, boot, m.layout.State, connected)
		},
		Objects: g.objects, Timings: timings(), Clock: clock.System{}, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// enrol does what the enrolment endpoint does with the store, once in the life of the volume.
func (g *Guests) enrol(ctx context.Context, m *guest, data []byte) error {
	mark := filepath.Join(m.layout.State, "enrolled")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	var boot bus.BootData
	if err := json.Unmarshal(data, &boot); err != nil {
		return err
	}
	err := g.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(boot.Token)), "key", time.Now())
		return err
	})
	return errors.Join(err, os.WriteFile(mark, nil, 0o600))
}

// Halt ends the machine: the agent, the database, and what was only in memory.
func (g *Guests) Halt(instance string) {
	g.mu.Lock()
	m := g.running[instance]
	delete(g.running, instance)
	g.mu.Unlock()
	if m == nil {
		return
	}
	m.cancel()
	<-m.done
	if ref, err := process.ReadFile(filepath.Join(m.layout.Runtime, guestagent.PIDFile)); err == nil && ref.Alive() {
		_ = unix.Kill(-ref.PID, unix.SIGKILL)
		for end := time.Now().Add(5 * time.Second); ref.Alive() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	_ = os.RemoveAll(m.layout.Runtime)
}

// HaltAll ends all machines.
func (g *Guests) HaltAll() {
	g.mu.Lock()
	all := make([]string, 0, len(g.running))
	for id := range g.running {
		all = append(all, id)
	}
	g.mu.Unlock()
	for _, id := range all {
		g.Halt(id)
	}
}
