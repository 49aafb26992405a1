package workflow_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// running starts an engine in a bubble and stops it at the end of the test.
func running(t *testing.T, s store.Store, defs ...*workflow.Definition) *workflow.Engine {
	t.Helper()
	e, err := workflow.New(workflow.Config{Store: s, Definitions: defs})
	if err != nil {
		t.Fatalf("make an engine: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return e
}

// sleep lets the bubble's time pass.
func sleep(t *testing.T, d time.Duration) {
	t.Helper()
	if err := clock.Sleep(t.Context(), d); err != nil {
		t.Fatalf("sleep: %v", err)
	}
}

func state(t *testing.T, s store.Store, id string) trove.Operation {
	t.Helper()
	op, err := s.Operation(t.Context(), id)
	if err != nil {
		t.Fatalf("read the operation: %v", err)
	}
	return op
}

func TestRunPollsAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := openStore(t), newWorld()
		e := running(t, s, &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}}})
		synctest.Wait()
		id := enqueue(t, s, clock.System{}.Now(), "k", "t")
		sleep(t, time.Second)
		synctest.Wait()
		if op := state(t, s, id); op.State != trove.OperationDone {
			t.Errorf("after a poll: %+v", op)
		}
		id = enqueue(t, s, clock.System{}.Now(), "k", "t")
		e.Wake()
		synctest.Wait()
		if op := state(t, s, id); op.State != trove.OperationDone {
			t.Errorf("at once after a wake-up: %+v", op)
		}
	})
}

func TestLeaseIsRenewedWhileAStepRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var runs atomic.Int64
		slow := &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: func(ctx context.Context, _ *workflow.Op) (workflow.Outcome, error) {
			runs.Add(1)
			return workflow.Done(), clock.Sleep(ctx, time.Minute)
		}}}}
		running(t, s, slow)
		running(t, s, slow)
		id := enqueue(t, s, clock.System{}.Now(), "k", "t")
		sleep(t, 62*time.Second)
		synctest.Wait()
		if op := state(t, s, id); op.State != trove.OperationDone || runs.Load() != 1 {
			t.Errorf("%d runs: %+v", runs.Load(), op)
		}
	})
}

// TestStepEndsWhenTheLeaseIsStolen takes the row away below a running step.
func TestStepEndsWhenTheLeaseIsStolen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var cause error
		var after time.Duration
		started := make(chan struct{})
		e := &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: func(ctx context.Context, _ *workflow.Op) (workflow.Outcome, error) {
			begin := time.Now()
			close(started)
			<-ctx.Done()
			after, cause = time.Since(begin), context.Cause(ctx)
			return workflow.Done(), nil
		}}}}
		running(t, s, e)
		id := enqueue(t, s, clock.System{}.Now(), "k", "t")
		<-started
		steal(t, s, time.Hour)
		before := state(t, s, id)
		sleep(t, 5*time.Second)
		synctest.Wait()
		if after != 3*time.Second || errors.Is(cause, context.Canceled) || cause == nil {
			t.Errorf("the step ended after %s: %v", after, cause)
		}
		if op := state(t, s, id); op != before {
			t.Errorf("the stale owner wrote: %+v", op)
		}
	})
}

// steal claims the only open row for somebody else, as a worker with a clock that runs ahead would.
func steal(t *testing.T, s store.Store, ahead time.Duration) {
	t.Helper()
	rows, err := s.DueOperations(t.Context(), clock.System{}.Now().Add(ahead), 10)
	if err != nil || len(rows) != 1 {
		t.Fatalf("due: %d rows, %v", len(rows), err)
	}
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.ClaimOperation(ctx, rows[0], "thief", clock.System{}.Now().Add(ahead))
		return err
	})
	if err != nil {
		t.Fatalf("steal: %v", err)
	}
}

// deaf refuses to write while it is told to.
type deaf struct {
	store.Store

	refuse atomic.Bool
}

func (d *deaf) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if d.refuse.Load() {
		return errDead
	}
	return d.Store.InTx(ctx, fn)
}

func TestStepEndsWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{Store: openStore(t)}
		var after []time.Duration
		step := func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
			if len(after) > 0 {
				return workflow.Done(), nil
			}
			begin := time.Now()
			if err := clock.Sleep(ctx, 7*time.Second); err != nil { // renewed at 3 s and 6 s
				return workflow.Outcome{}, err
			}
			d.refuse.Store(true)
			<-ctx.Done()
			after = append(after, time.Since(begin))
			d.refuse.Store(false) // the store is back, but the lease may be somebody else's
			return workflow.Done(), nil
		}
		running(t, d, &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: step}}})
		id := enqueue(t, d, clock.System{}.Now(), "k", "t")
		sleep(t, 15*time.Second)
		synctest.Wait()
		if op := state(t, d, id); op.State != trove.OperationOpen {
			t.Errorf("a worker wrote without a good lease: %+v", op)
		}
		if !slices.Equal(after, []time.Duration{14 * time.Second}) {
			t.Errorf("the step ended after %v, want 8 s after the last good renewal", after)
		}
		sleep(t, 4*time.Second)
		synctest.Wait()
		if op := state(t, d, id); op.State != trove.OperationDone {
			t.Errorf("nobody took over: %+v", op)
		}
	})
}

func TestShutdownGivesTheLeaseBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		started := make(chan struct{})
		var once sync.Once
		def := &workflow.Definition{Kind: "k", Steps: []workflow.Step{
			{Name: "a", Do: script(done)},
			{Name: "b", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
				first := false
				once.Do(func() { first = true })
				if !first {
					return workflow.Done(), nil
				}
				close(started)
				return workflow.Done(), clock.Sleep(ctx, time.Hour)
			}},
		}}
		e, err := workflow.New(workflow.Config{Store: s, Definitions: []*workflow.Definition{def}})
		if err != nil {
			t.Fatal(err)
		}
		id := enqueue(t, s, clock.System{}.Now(), "k", "t")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		<-started
		begin := time.Now()
		cancel()
		if err := <-ended; err != nil || time.Since(begin) > time.Second {
			t.Errorf("the shutdown took %s: %v", time.Since(begin), err)
		}
		op := state(t, s, id)
		if op.State != trove.OperationOpen || op.Step != "b" || op.Attempt != 0 || op.Undoing {
			t.Errorf("after the shutdown: %+v", op)
		}
		running(t, s, def)
		synctest.Wait() // no waiting for the end of the lease
		if op := state(t, s, id); op.State != trove.OperationDone {
			t.Errorf("after the restart: %+v", op)
		}
	})
}

func TestTwoEnginesShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var mu sync.Mutex
		runs := map[string]int{}
		def := &workflow.Definition{Kind: "k", Steps: []workflow.Step{
			{Name: "a", Do: func(_ context.Context, op *workflow.Op) (workflow.Outcome, error) {
				mu.Lock()
				defer mu.Unlock()
				runs[op.Target()]++
				return workflow.Done(), nil
			}},
			{Name: "b", Do: script(done)},
		}}
		var ids []string
		for range 100 {
			ids = append(ids, enqueue(t, s, clock.System{}.Now(), "k", trove.NewID()))
		}
		running(t, s, def)
		running(t, s, def)
		sleep(t, 5*time.Second)
		synctest.Wait()
		for _, id := range ids {
			if op := state(t, s, id); op.State != trove.OperationDone || runs[op.Target] != 1 {
				t.Errorf("%d runs: %+v", runs[op.Target], op)
			}
		}
	})
}

// TestStaleOwnerIsRefused freezes a worker in its step until another one has taken over and finished.
func TestStaleOwnerIsRefused(t *testing.T) {
	b, w := newBed(t), newWorld()
	frozen, thaw := make(chan struct{}), make(chan struct{})
	slow := &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		close(frozen)
		<-thaw
		return workflow.DoneWith(takes), nil
	}}}}
	id := b.enqueue("k")
	stale, heir := b.engine(slow), b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}}})
	ended := make(chan error, 1)
	go func() {
		_, err := stale.RunOne(t.Context())
		ended <- err
	}()
	<-frozen
	if b.one(heir) {
		t.Fatal("the row was taken before its lease ended")
	}
	b.clock.Add(10 * time.Second)
	if !b.one(heir) {
		t.Fatal("the row was not taken when its lease had ended")
	}
	before := b.op(id)
	close(thaw)
	if err := <-ended; err != nil {
		t.Errorf("the stale worker: %v", err)
	}
	if op := b.op(id); op != before || op.State != trove.OperationDone || b.quota() != 0 {
		t.Errorf("the stale worker wrote: %+v, %d", op, b.quota())
	}
}

// TestTheOnlyEngineTakesOverAtOnce starts an engine beside a row whose worker died a moment ago.
func TestTheOnlyEngineTakesOverAtOnce(t *testing.T) {
	for _, alone := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t)
			id := enqueue(t, s, clock.System{}.Now(), "k", "t")
			steal(t, s, 10*time.Second)
			e, err := workflow.New(workflow.Config{
				Store: s, Definitions: []*workflow.Definition{{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: script(done)}}}}, Alone: alone,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- e.Run(ctx) }()
			sleep(t, 600*time.Millisecond)
			synctest.Wait()
			if op := state(t, s, id); (op.State == trove.OperationDone) != alone {
				t.Errorf("alone %t: %+v", alone, op)
			}
			sleep(t, 10*time.Second)
			synctest.Wait()
			if op := state(t, s, id); op.State != trove.OperationDone {
				t.Errorf("alone %t, after the lease: %+v", alone, op)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
