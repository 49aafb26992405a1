package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// pair writes two rows that belong together.
func pair(ctx context.Context, s *sqlstore.Store, id string) error {
	return s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.PutDatastore(ctx, trove.Datastore{ID: id + "-a", Name: id + "-a"}); err != nil {
			return err
		}
		return tx.PutDatastore(ctx, trove.Datastore{ID: id + "-b", Name: id + "-b"})
	})
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	if err := clock.Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// until waits for what a busy machine takes its time for.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); pause(t, 10*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited two minutes for %s", what)
		}
	}
}

// TestServerKilledInTheMiddleOfTransactions kills the server (SIGKILL, all of its processes) twice while two processes write, and starts it again: what was
// confirmed is there, nothing is there by half, nothing that was refused is there, and both go on by themselves.
func TestServerKilledInTheMiddleOfTransactions(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{Sync: true})
			cfg := *server.Database(t)
			cfg.Patience = time.Minute // the start of a server may take most of it
			stores := []*sqlstore.Store{open(t, sqlstore.Config{Server: &cfg}), open(t, sqlstore.Config{Server: &cfg})}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var mu sync.Mutex
			fate, written := map[string]error{}, 0
			moreWritten := func() {
				t.Helper()
				mu.Lock()
				before := written
				mu.Unlock()
				until(t, "rows to be written", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return written > before+20
				})
			}
			var wg sync.WaitGroup
			for w := range 6 {
				wg.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						id := fmt.Sprintf("%d-%d", w, n)
						err := pair(t.Context(), stores[w%2], id)
						mu.Lock()
						if fate[id] = err; err == nil {
							written++
						}
						mu.Unlock()
					}
				})
			}
			for range 2 {
				moreWritten()
				server.Signal(syscall.SIGKILL)
				pause(t, 200*time.Millisecond)
				if err := server.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			moreWritten()
			stop()
			wg.Wait()
			there := map[string]bool{}
			all, err := stores[0].Datastores(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range all {
				there[d.ID] = true
			}
			confirmed, unknown := 0, 0
			for id, err := range fate {
				a, b := there[id+"-a"], there[id+"-b"]
				if a != b {
					t.Errorf("%s is there by half", id)
				}
				switch {
				case err == nil:
					confirmed++
					if !a {
						t.Errorf("%s was confirmed and is lost", id)
					}
				case errors.Is(err, sqlstore.ErrUnknown) && trove.KindOf(err) == trove.KindUnavailable:
					unknown++
				default:
					t.Errorf("%s: %v", id, err)
				}
			}
			if confirmed < 20 || len(fate) > 100+20*confirmed {
				t.Errorf("%d of %d were confirmed", confirmed, len(fate))
			}
			t.Logf("%d confirmed, %d of unknown fate", confirmed, unknown)
		})
	}
}

// TestServerAwayAndBack: without the server everything is refused soon, with a sentence; when it is back the same store works.
func TestServerAwayAndBack(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{})
			cfg := *server.Database(t)
			cfg.Patience = 200 * time.Millisecond
			s := open(t, sqlstore.Config{Server: &cfg})
			i := storetest.Instance("p")
			change(t, s, func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
			server.Signal(syscall.SIGKILL)
			for name, do := range map[string]func() error{
				"read":  func() error { _, err := s.Instance(t.Context(), i.ID); return err },
				"list":  func() error { _, err := s.Instances(t.Context(), store.InstanceFilter{Limit: 20}); return err },
				"write": func() error { return pair(t.Context(), s, "away") },
				"ping":  func() error { return s.Ping(t.Context()) },
			} {
				began := time.Now()
				err := do()
				if trove.KindOf(err) != trove.KindUnavailable || trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "cannot be reached") {
					t.Errorf("%s without a server: %v", name, err)
				}
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("%s was refused after %v", name, took)
				}
			}
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Instance(t.Context(), i.ID); err != nil {
				t.Errorf("read when it is back: %v", err)
			}
			if err := pair(t.Context(), s, "back"); err != nil {
				t.Errorf("write when it is back: %v", err)
			}
			if all, err := s.Datastores(t.Context()); len(all) != 2 || err != nil {
				t.Errorf("%d rows, %v, want those of the second write", len(all), err)
			}
			server.Signal(syscall.SIGKILL)
			if err := s.Close(); err != nil {
				t.Errorf("close when it is away again: %v", err)
			}
		})
	}
}

// TestServerThatSaysNothingHoldsNobodyForEver stops the processes of the server: connections stay and no answer comes.
func TestServerThatSaysNothingHoldsNobodyForEver(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{})
			s := open(t, sqlstore.Config{Server: server.Database(t)})
			if err := pair(t.Context(), s, "before"); err != nil {
				t.Fatal(err)
			}
			sqlstore.SetLimit(s, 700*time.Millisecond)
			server.Signal(syscall.SIGSTOP)
			began := time.Now()
			_, err := s.Datastores(t.Context())
			if trove.KindOf(err) != trove.KindUnavailable {
				t.Errorf("read: %v", err)
			}
			if err := pair(t.Context(), s, "mute"); trove.KindOf(err) != trove.KindUnavailable {
				t.Errorf("write: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := pair(ctx, s, "impatient"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller's own limit: %v", err)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			server.Signal(syscall.SIGCONT)
			sqlstore.SetLimit(s, time.Minute)
			if err := pair(t.Context(), s, "after"); err != nil {
				t.Errorf("write when it answers again: %v", err)
			}
			all, err := s.Datastores(t.Context())
			if err != nil || len(all) != 4 {
				t.Errorf("%d rows, %v, want those of two writes", len(all), err)
			}
		})
	}
}

// cutter is a way to a server that breaks when a word passes.
type cutter struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	word  []byte // nil: nothing is cut
	after bool   // the word still reaches the server, and its answer does not come back
	cuts  int
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &cutter{listener: l, to: to}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(in)
		}
	}()
	return c
}

func (c *cutter) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() { _, _ = io.Copy(in, out) }()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		cut, after := c.word != nil && bytes.Contains(buf[:n], c.word), c.after
		if cut {
			c.word = nil
			c.cuts++
		}
		c.mu.Unlock()
		if cut && after {
			_ = in.Close()
		}
		if !cut || after {
			if _, err := out.Write(buf[:n]); err != nil {
				return
			}
		}
		if cut {
			_ = clock.Sleep(context.Background(), 300*time.Millisecond) // the server does what it was told
			return
		}
	}
}

// arm makes it break with the next word of that kind.
func (c *cutter) arm(word string, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.word, c.after, c.cuts = []byte(word), after, 0
}

// count returns how many connections were cut since then.
func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

// TestConnectionLostAtEachPlace: before COMMIT all of it runs again; with COMMIT nobody knows, and nothing is done twice.
func TestConnectionLostAtEachPlace(t *testing.T) {
	for _, c := range []struct {
		name, word string
		after      bool
		runs       int
		unknown    bool
		there      bool
	}{
		{"in a statement", "datastore", false, 2, false, true},
		{"in a statement that was done", "datastore", true, 2, false, true},
		{"before COMMIT arrives", "COMMIT", false, 1, true, false},
		{"before the answer to COMMIT arrives", "COMMIT", true, 1, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			onServers(t, func(t *testing.T, server *sqlstore.Server) {
				way := newCutter(t, server.Hosts[0])
				direct := open(t, sqlstore.Config{Server: server})
				through := *server
				through.Hosts = []string{way.listener.Addr().String()}
				s := open(t, sqlstore.Config{Server: &through})
				way.arm(c.word, c.after)
				runs := 0
				err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					runs++
					return tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "n"})
				})
				if runs != c.runs || errors.Is(err, sqlstore.ErrUnknown) != c.unknown || !c.unknown && err != nil {
					t.Errorf("%d runs, %v", runs, err)
				}
				if c.unknown && (trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "Look before")) {
					t.Errorf("the error says %q", trove.MessageOf(err))
				}
				if n := way.count(); n != 1 {
					t.Errorf("%d connections were cut", n)
				}
				all, err := direct.Datastores(t.Context())
				for n := 0; c.there && len(all) == 0 && n < 1500; n++ { // the server may still have to read the COMMIT that nobody waits for
					pause(t, 20*time.Millisecond)
					all, err = direct.Datastores(t.Context())
				}
				if (len(all) == 1) != c.there || err != nil {
					t.Errorf("%d rows, %v", len(all), err)
				}
				if err := pair(t.Context(), s, "next"); err != nil {
					t.Errorf("the next transaction: %v", err)
				}
			})
		})
	}
}
