package workflow_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestEnginesGoOnAfterTheDatabaseWasKilled lets two engines, each with a store of its own as in two processes, work on one database server that is killed
// and started again: every operation ends, no step is left out, and none runs in both engines but those whose COMMIT was lost.
func TestEnginesGoOnAfterTheDatabaseWasKilled(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{Sync: true})
			cfg := server.Database(t)
			cfg.Patience = 300 * time.Millisecond // less than the server is away: the engines meet errors
			var mu sync.Mutex
			runs := map[string]int{}
			step := func(name string) workflow.Step {
				return workflow.Step{Name: name, Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
					if err := clock.Sleep(ctx, 20*time.Millisecond); err != nil {
						return workflow.Outcome{}, err
					}
					mu.Lock()
					defer mu.Unlock()
					runs[op.Target()+" "+name]++
					return workflow.Done(), nil
				}}
			}
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var stores []*sqlstore.Store
			var engines []*workflow.Engine
			for range 2 {
				s, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: cfg})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				stores = append(stores, s)
				def := &workflow.Definition{Kind: "k", Steps: []workflow.Step{step("a"), step("b"), step("c")}}
				e, err := workflow.New(workflow.Config{
					Store: s, Definitions: []*workflow.Definition{def}, Lease: 2 * time.Second, Poll: 100 * time.Millisecond, Workers: 4,
				})
				if err != nil {
					t.Fatal(err)
				}
				engines = append(engines, e)
			}
			t.Cleanup(wg.Wait)
			t.Cleanup(stop)
			const operations = 150
			var ids []string
			for range operations {
				ids = append(ids, enqueue(t, stores[0], clock.System{}.Now(), "k", trove.NewID()))
			}
			for _, e := range engines { // they may be quicker than who enqueues
				wg.Go(func() {
					if err := e.Run(ctx); err != nil {
						t.Errorf("an engine ended: %v", err)
					}
				})
			}
			under := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(runs)
			}
			for end := time.Now().Add(time.Minute); under() < 12 && time.Now().Before(end); {
				_ = clock.Sleep(t.Context(), time.Millisecond)
			}
			if n, err := stores[0].CountOpenOperations(t.Context()); n < 20 || err != nil {
				t.Fatalf("only %d operations are open, %v", n, err)
			}
			server.Signal(syscall.SIGKILL)
			_ = clock.Sleep(t.Context(), 700*time.Millisecond)
			if err := server.Restart(); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(2 * time.Minute); ; {
				n, err := stores[1].CountOpenOperations(t.Context())
				if err == nil && n == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d operations are open, %v", n, err)
				}
				_ = clock.Sleep(t.Context(), 50*time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			twice := 0
			for _, id := range ids {
				op := state(t, stores[0], id)
				if op.State != trove.OperationDone {
					t.Errorf("%+v", op)
				}
				for _, name := range []string{"a", "b", "c"} {
					switch n := runs[op.Target+" "+name]; {
					case n == 0:
						t.Errorf("step %s of %s did not run", name, id)
					case n > 1:
						twice++
					}
				}
			}
			if twice > 8 { // as many as were under way
				t.Errorf("%d steps ran twice", twice)
			}
			t.Logf("%d steps ran twice", twice)
		})
	}
}
