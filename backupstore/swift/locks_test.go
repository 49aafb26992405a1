package swift_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/backupstore/swift"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestLocksOfSeveralProcesses(t *testing.T) {
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	processes := []*swift.Shared{{Claims: st, Clock: clock.System{}}, {Claims: st, Clock: clock.System{}}}
	var all sync.WaitGroup
	var inside, most atomic.Int32
	for n := range 12 {
		all.Go(func() {
			held, unlock, err := processes[n%2].Lock(t.Context(), "name")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if _, bounded := held.Deadline(); !bounded {
				t.Error("what is done under the lock has no deadline")
			}
			most.Store(max(most.Load(), inside.Add(1)))
			_ = clock.Sleep(t.Context(), 2*time.Millisecond)
			inside.Add(-1)
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d had the name at a time", most.Load())
	}
	// Who waits stops when he is told, and another name is free.
	_, unlock, err := processes[0].Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, p := range processes {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if _, _, err := p.Lock(ctx, "name"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a name that another one has: %v", err)
		}
		cancel()
		_, other, err := p.Lock(t.Context(), "another name")
		if err != nil {
			t.Fatal(err)
		}
		other()
	}
}
