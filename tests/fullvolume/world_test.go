// Package fullvolume_test fills the data volume of a real database server behind a real guest agent until nothing goes any more, in several ways, lets it grow, and
// looks whether the server is back without a person and has every row that it said it had. The volume is a file system of its own on a loop device, as those
// of the local cloud are. TROVE_FILLS is how often each way is tried; without it two are, once.
package fullvolume_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	engineID = 65534     // the account that servers run as: one that owns nothing
	small    = 512 << 20 // the volume at first
	large    = 2         // GiB that it grows to
	patience = 3 * time.Minute
	user     = "alice"
)

const password trove.Secret = "alice-password"

// product is a database product as these tests use it. Another one is another product: the story is the same.
type product struct {
	name    string
	engine  func() engine.Engine
	address string // of this machine's loopback network, for its servers alone
	open    func(t *testing.T, address string) *sql.DB
	schema  []string
	insert  string // id, payload, checksum: three placeholders
	all     string // id and whether the payload has its checksum
	check   func(t *testing.T, db *sql.DB)
	// fills write until the server refuses; each returns the refusal.
	fills map[string]func(ctx context.Context, w *world) error
}

// world is a server on a volume of its own.
type world struct {
	t      *testing.T
	p      *product
	image  string
	layout engine.Layout
	guests *guestapi.Client
	agent  *guestagent.Agent
	db     *sql.DB

	id        string
	last      int64
	committed map[int64]bool // rows that the server said it has
	doubtful  map[int64]bool // rows whose commit was not answered
}

func newWorld(t *testing.T, p *product) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a loop device and a mount")
	}
	dir, err := os.MkdirTemp("", "full") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{
		t: t, p: p, id: trove.NewID(), image: filepath.Join(dir, "volume"), committed: map[int64]bool{}, doubtful: map[int64]bool{},
		layout: engine.Layout{Data: dir + "/data", Runtime: dir + "/run", State: dir + "/data/trove", UID: engineID, GID: engineID, Address: p.address},
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, w.layout.Data: 0o755, w.layout.Runtime: 0o711} {
		if err := errors.Join(os.MkdirAll(path, perm), os.Chmod(path, perm)); err != nil {
			t.Fatal(err)
		}
	}
	if err := volume.Make(t.Context(), volume.Spec{Image: w.image, Size: small}); err != nil {
		t.Fatal(err)
	}
	// The host's loop device writes through, so that the volume is full when it says so.
	if _, err := volume.AttachSparse(w.image, w.layout.Data, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := volume.Detach(context.WithoutCancel(t.Context()), w.layout.Data); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.Chmod(w.layout.Data, 0o755), os.MkdirAll(w.layout.State, 0o700)); err != nil {
		t.Fatal(err)
	}
	broker := membus.New()
	t.Cleanup(func() { _ = broker.Close() })
	w.guests = guestapi.NewClient(broker.Conn("controller"))
	w.startAgent(broker)
	w.db = p.open(t, p.address)
	t.Cleanup(func() { _ = w.db.Close() })
	for _, s := range p.schema {
		if _, err := w.db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return w
}

// startAgent starts agent and server; the test's end stops both, the server by force if it must be.
func (w *world) startAgent(broker *membus.Broker) {
	w.t.Helper()
	a, err := guestagent.New(guestagent.Config{
		Instance: w.id, BootID: "boot-1", Version: "1.2.3", Engine: w.p.engine(), Layout: w.layout, Clock: clock.System{}, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Connect: func(_ context.Context, connected func()) (bus.Conn, error) {
			connected()
			return broker.Conn("guest"), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent = a
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w.t.Cleanup(func() {
		w.endServer()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
	})
	w.until("the agent answers", func() bool {
		_, err := w.guests.Ping(w.t.Context(), w.id)
		return err == nil
	})
	w.long("op/prepare", guestapi.CmdPrepare, guestapi.PrepareArgs{
		ServerID: 7, RAM: 512, VCPUs: 1, Databases: []trove.Database{{Name: "shop"}},
		Users: []guestapi.UserArgs{{Name: user, Password: password.Reveal(), Databases: []string{"shop"}}},
	})
}

func (w *world) endServer() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), time.Minute)
	defer cancel()
	_, _ = w.guests.Start(ctx, w.id, "op/stop", guestapi.CmdStop, nil)
	for ctx.Err() == nil {
		if s, err := w.guests.Status(ctx, w.id, "op/stop"); err == nil && s.State != guestapi.StateRunning {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Error("the server did not stop")
	if pid := w.agent.Service().PID; pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// long gives a long command and waits for its end.
func (w *world) long(id string, cmd guestapi.Command, args any) {
	w.t.Helper()
	if _, err := w.guests.Start(w.t.Context(), w.id, id, cmd, args); err != nil {
		w.t.Fatalf("%s: %v", cmd, err)
	}
	var s guestapi.OperationStatus
	w.until(string(cmd), func() bool {
		var err error
		s, err = w.guests.Status(w.t.Context(), w.id, id)
		return err == nil && s.State != guestapi.StateRunning
	})
	if s.State != guestapi.StateDone {
		w.t.Fatalf("%s ended with %+v", cmd, s.Error)
	}
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// free is how many bytes the volume has left.
func (w *world) free() int64 {
	w.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(w.layout.Data, &st); err != nil {
		w.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}
