package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

func open(tb testing.TB, cfg sqlstore.Config) *sqlstore.Store {
	tb.Helper()
	if cfg.Path == "" && cfg.Server == nil {
		cfg.Path = filepath.Join(tb.TempDir(), "store.db")
	}
	cfg.NoSync = true
	s, err := sqlstore.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func TestMain(m *testing.M) {
	m.Run()
	dbserver.StopShared()
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, sqlstore.Config{}) })
}

func TestConformanceOfServers(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Shared(t, kind)
			storetest.Run(t, func(t *testing.T) store.Store { return open(t, sqlstore.Config{Server: server.Database(t)}) })
		})
	}
}

var start = time.Date(2026, 7, 8, 9, 10, 11, 12_000, time.UTC)

func TestStateSurvivesAReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "store.db")
	i := storetest.Instance("p")
	for n := range 2 {
		s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path})
		if err != nil {
			t.Fatalf("open %d: %v", n, err)
		}
		if n == 0 {
			err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
		} else {
			_, err = s.Instance(t.Context(), i.ID)
		}
		if err != nil {
			t.Errorf("run %d: %v", n, err)
		}
		for _, name := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(path + name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("store.db%s: %v, %v, want the rights 0600", name, info, err)
			}
		}
		for range 2 { // twice is fine
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Error("a closed store answers")
		}
		if err := s.InTx(t.Context(), func(context.Context, store.Tx) error { return nil }); err == nil {
			t.Error("a closed store writes")
		}
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, sqlstore.Config{Path: path})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "schema 9999") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestTwoProcessesOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	i := storetest.Instance("p")
	i.VolumeSize = 0
	var wg sync.WaitGroup
	a := open(t, sqlstore.Config{Path: path})
	if err := a.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) }); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*sqlstore.Store{a, open(t, sqlstore.Config{Path: path})} {
		wg.Go(func() {
			for range 50 {
				err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					return tx.UpdateInstance(ctx, i.ID, start, func(i *trove.Instance) error { i.VolumeSize++; return nil })
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
				// What the other one wrote is seen at once, although this one keeps decoded instances.
				if _, err := s.Instance(t.Context(), i.ID); err != nil {
					t.Errorf("read: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := a.Instance(t.Context(), i.ID); err != nil || got.VolumeSize != 100 {
		t.Errorf("got %d, %v, want 100", got.VolumeSize, err)
	}
}

func TestReadersShareNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		i := storetest.Instance("p")
		if err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) }); err != nil {
			t.Fatal(err)
		}
		read := func() trove.Instance {
			t.Helper()
			got, err := s.Instance(t.Context(), i.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		want := read()
		for range 2 { // the first is decoded, the second comes from the cache
			got := read()
			got.Held["x"], got.Fault.Message, got.NICs[0].NetworkID, got.Addresses[0].Address, got.Access.AllowedCIDRs[0] = 1, "x", "x", "x", "x"
		}
		if d := cmp.Diff(want, read()); d != "" {
			t.Errorf("a reader changed what others read: %s", d)
		}
	})
}

func TestAFailedStatementSpoilsTheTransaction(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		i, other := storetest.Instance("p"), storetest.Instance("p")
		err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := tx.InsertInstance(ctx, i); err != nil {
				return err
			}
			if err := tx.InsertInstance(ctx, i); err == nil {
				t.Error("the same id went in twice")
			}
			if err := tx.InsertInstance(ctx, other); err == nil {
				t.Error("a failed transaction goes on")
			}
			return nil
		})
		if err == nil {
			t.Error("a failed transaction was committed")
		}
		if _, err := s.Instance(t.Context(), i.ID); !trove.IsNotFound(err) {
			t.Errorf("half a transaction is there: %v", err)
		}
	})
}

func TestInTxInsideInTxIsAnError(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		err := s.InTx(t.Context(), func(ctx context.Context, _ store.Tx) error {
			return s.InTx(ctx, func(context.Context, store.Tx) error { return nil })
		})
		if err == nil {
			t.Error("it was not refused")
		}
	})
}

func TestWaitingForTheWriterEndsWithTheContext(t *testing.T) {
	s := open(t, sqlstore.Config{})
	inside, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- s.InTx(t.Context(), func(context.Context, store.Tx) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := s.InTx(ctx, func(context.Context, store.Tx) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time passed", err)
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Errorf("the first transaction: %v", err)
	}
}

func TestQuotaLimitsOfTheConfiguration(t *testing.T) {
	s := open(t, sqlstore.Config{Quotas: map[string]int{trove.QuotaInstances: 1}})
	got, err := s.Quotas(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	want := []trove.Quota{
		{Resource: "backups", Limit: 50},
		{Resource: "instances", Limit: 1},
		{Resource: "ram", Limit: -1},
		{Resource: "volumes", Limit: 40},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, sqlstore.Config{Metrics: reg})
	if err := s.InTx(t.Context(), func(context.Context, store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetHistogram().GetSampleCount() != 1 {
		t.Errorf("got %v, %v", families, err)
	}
}

// TestLibcIsTheDriversOwn keeps modernc.org/libc at the version that modernc.org/sqlite asks for; with another one it fails in odd ways.
func TestLibcIsTheDriversOwn(t *testing.T) {
	list := func(format, module string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", format, module).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", module, err)
		}
		return strings.TrimSpace(string(out))
	}
	mod, err := os.ReadFile(list("{{.GoMod}}", "modernc.org/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`modernc\.org/libc (v\S+)`).FindStringSubmatch(string(mod))
	if want == nil {
		t.Fatal("the driver's go.mod does not name libc")
	}
	if got := list("{{.Version}}", "modernc.org/libc"); got != want[1] {
		t.Errorf("libc is %s, the driver wants %s", got, want[1])
	}
	if sqlstore.WantedLibc != want[1] {
		t.Errorf("the check at the start wants %s, the driver %s", sqlstore.WantedLibc, want[1])
	}
}
