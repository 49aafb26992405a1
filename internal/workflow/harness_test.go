package workflow_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

func openStore(tb testing.TB) store.Store {
	tb.Helper()
	s, err := sqlstore.Open(context.Background(), sqlstore.Config{Path: filepath.Join(tb.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		tb.Fatalf("open the store: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close the store: %v", err)
		}
	})
	return s
}

// world is what is outside: things with names that steps make and undos remove, and how often each step ran.
type world struct {
	mu     sync.Mutex
	things map[string]bool
	calls  []string
}

func newWorld() *world { return &world{things: map[string]bool{}} }

func (w *world) make(name string) workflow.StepFunc {
	return func(context.Context, *workflow.Op) (workflow.Outcome, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.things[name] = true
		w.calls = append(w.calls, "make "+name)
		return workflow.Done(), nil
	}
}

func (w *world) remove(name string) workflow.StepFunc {
	return func(context.Context, *workflow.Op) (workflow.Outcome, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.things, name)
		w.calls = append(w.calls, "remove "+name)
		return workflow.Done(), nil
	}
}

func (w *world) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for n := range w.things {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

type bed struct {
	tb    testing.TB
	store store.Store
	clock *clock.Manual
}

func newBed(tb testing.TB) *bed {
	tb.Helper()
	return &bed{tb: tb, store: openStore(tb), clock: clock.NewManual(start)}
}

func (b *bed) engine(defs ...*workflow.Definition) *workflow.Engine {
	b.tb.Helper()
	return b.engineOn(b.store, defs...)
}

func (b *bed) engineOn(s store.Store, defs ...*workflow.Definition) *workflow.Engine {
	b.tb.Helper()
	e, err := workflow.New(workflow.Config{Store: s, Definitions: defs, Clock: b.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.tb.Fatalf("make an engine: %v", err)
	}
	return e
}

func enqueue(tb testing.TB, s store.Store, now time.Time, kind, target string) string {
	tb.Helper()
	var id string
	err := s.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		var err error
		id, err = workflow.Enqueue(ctx, tx, now, workflow.Request{Kind: kind, Target: target, ProjectID: "p", RequestID: "req-1", Input: map[string]int{"n": 7}})
		return err
	})
	if err != nil {
		tb.Fatalf("enqueue: %v", err)
	}
	return id
}

func (b *bed) enqueue(kind string) string {
	b.tb.Helper()
	return enqueue(b.tb, b.store, b.clock.Now(), kind, trove.NewID())
}

// one runs one claim and says whether there was one.
func (b *bed) one(e *workflow.Engine) bool {
	b.tb.Helper()
	ran, err := e.RunOne(b.tb.Context())
	if err != nil {
		b.tb.Fatalf("run one: %v", err)
	}
	return ran
}

// finish runs the engine, moving the clock, until the operation is closed.
func (b *bed) finish(e *workflow.Engine, id string) trove.Operation {
	b.tb.Helper()
	for range 2000 {
		if op := b.op(id); op.State != trove.OperationOpen {
			return op
		}
		if !b.one(e) {
			b.clock.Add(time.Second)
		}
	}
	b.tb.Fatalf("operation is still open: %+v", b.op(id))
	return trove.Operation{}
}

func (b *bed) op(id string) trove.Operation {
	b.tb.Helper()
	op, err := b.store.Operation(b.tb.Context(), id)
	if err != nil {
		b.tb.Fatalf("read the operation: %v", err)
	}
	return op
}

// log returns the timeline as "step outcome" lines.
func (b *bed) log(id string) []string {
	b.tb.Helper()
	events, err := b.store.OperationLog(b.tb.Context(), id, 0)
	if err != nil {
		b.tb.Fatalf("read the timeline: %v", err)
	}
	var lines []string
	for n, e := range events {
		if e.Seq != int64(n+1) {
			b.tb.Errorf("line %d of the timeline has the number %d", n+1, e.Seq)
		}
		lines = append(lines, fmt.Sprintf("%s %s", e.Step, e.Outcome))
	}
	return lines
}

// script returns a step that does one thing after another, the last one for ever.
func script(outcomes ...func(op *workflow.Op) (workflow.Outcome, error)) workflow.StepFunc {
	var mu sync.Mutex
	n := 0
	return func(_ context.Context, op *workflow.Op) (workflow.Outcome, error) {
		mu.Lock()
		do := outcomes[min(n, len(outcomes)-1)]
		n++
		mu.Unlock()
		return do(op)
	}
}

func done(*workflow.Op) (workflow.Outcome, error) { return workflow.Done(), nil }

func fails(err error) func(*workflow.Op) (workflow.Outcome, error) {
	return func(*workflow.Op) (workflow.Outcome, error) { return workflow.Outcome{}, err }
}
