package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

var errDead = errors.New("the process is dead")

// mortal is a store as seen by a process that dies at its nth transaction, before or after the commit: from then on nothing works.
type mortal struct {
	store.Store

	mu    sync.Mutex
	left  int
	after bool
	dead  bool
}

func (m *mortal) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	m.left--
	if m.left == 0 {
		m.dead = true
		if !m.after {
			return errDead
		}
	}
	err := m.Store.InTx(ctx, fn)
	if m.dead {
		return errDead
	}
	return err
}

func (m *mortal) DueOperations(ctx context.Context, now time.Time, limit int) ([]store.OperationRow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errDead
	}
	return m.Store.DueOperations(ctx, now, limit)
}

// quota returns what the project uses, which DoneWith and Closed change.
func (b *bed) quota() int {
	b.tb.Helper()
	qs, err := b.store.Quotas(b.tb.Context(), "p")
	if err != nil {
		b.tb.Fatalf("quotas: %v", err)
	}
	for _, q := range qs {
		if q.Resource == trove.QuotaBackups {
			return q.InUse
		}
	}
	return -1
}

func takes(ctx context.Context, tx store.Tx) error {
	return tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaBackups: 1})
}

// definition is an operation with everything: waits, a note, sentences, writes with a transition, errors, an undo that fails at first.
func definition(w *world, last workflow.StepFunc) *workflow.Definition {
	return &workflow.Definition{
		Kind: "k",
		Steps: []workflow.Step{
			{Name: "a", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
				op.Say(ctx, 50, "making a")
				_, _ = w.make("a")(ctx, op)
				return workflow.DoneWith(takes), op.SetNote("a", "made")
			}, Undo: w.remove("a")},
			{Name: "b", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
				_, _ = w.make("b")(ctx, op)
				if op.Attempt() == 0 {
					return workflow.Again(time.Second, "waiting for b"), nil
				}
				if op.Attempt() == 1 {
					return workflow.WaitFor("waiting for the report of b"), nil
				}
				var note string
				if ok, err := op.Note("a", &note); !ok || note != "made" {
					return workflow.Outcome{}, trove.Permanent(fmt.Errorf("the note is %q, %t, %w", note, ok, err))
				}
				return workflow.Done(), nil
			}, Undo: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
				if op.Attempt() < 2 {
					return workflow.Outcome{}, errSoft
				}
				return w.remove("b")(ctx, op)
			}},
			{Name: "c", Do: last, Undo: w.remove("c")},
		},
		Closed: takes2,
	}
}

// takes2 counts the ends that were committed.
func takes2(ctx context.Context, tx store.Tx, _ *workflow.Op, _ trove.OperationState, _ string) error {
	return tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaBackups: 10})
}

// TestCrashAnywhere kills the worker before and after each of its commits; another one must bring the operation to the same end.
func TestCrashAnywhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		fail  bool
		state trove.OperationState
		left  []string
	}{
		{"forwards", false, trove.OperationDone, []string{"a", "b", "c"}},
		{"undo", true, trove.OperationUndone, nil},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%t", c.name, after), func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				err := b.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					return tx.SetQuota(ctx, "p", trove.QuotaBackups, -1)
				})
				if err != nil {
					t.Fatal(err)
				}
				for n := 1; ; n++ {
					if !crashAt(t, b, n, after, c.fail, c.state, c.left) {
						if n < 8 {
							t.Errorf("the operation had only %d commits", n-1)
						}
						return
					}
				}
			})
		}
	}
}

// crashAt runs one operation with a crash at the nth commit; false when it had fewer.
func crashAt(t *testing.T, b *bed, n int, after, fail bool, state trove.OperationState, left []string) bool {
	t.Helper()
	w, written := newWorld(), b.quota()
	last := w.make("c")
	if fail {
		last = func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
			_, _ = w.make("c")(ctx, op)
			return workflow.Outcome{}, errHard
		}
	}
	id := b.enqueue("k")
	m := &mortal{Store: b.store, left: n, after: after}
	victim := b.engineOn(m, definition(w, last))
	for b.op(id).State == trove.OperationOpen && !m.dead {
		ran, err := victim.RunOne(t.Context())
		if err != nil && !errors.Is(err, errDead) {
			t.Fatalf("commit %d: %v", n, err)
		}
		if !ran {
			b.clock.Add(time.Second)
		}
	}
	heir := b.engine(definition(w, last))
	op := b.finish(heir, id)
	if op.State != state {
		t.Errorf("commit %d: the end is %s (%s), want %s", n, op.State, op.Error, state)
	}
	if d := cmp.Diff(left, w.left()); d != "" {
		t.Errorf("commit %d: left behind: %s", n, d)
	}
	if q := b.quota() - written; q != 11 {
		t.Errorf("commit %d: the writes of the transitions are %d, want 11: each once", n, q)
	}
	b.log(id) // its numbers have no gap
	if op.Percent != 100 && state == trove.OperationDone {
		t.Errorf("commit %d: the end is at %d %%", n, op.Percent)
	}
	return m.dead
}

// TestLostCommitAnswer lets each commit in turn succeed without the worker learning of it; the same worker lives on.
func TestLostCommitAnswer(t *testing.T) {
	b, w := newBed(t), newWorld()
	id := b.enqueue("k")
	l := &lossy{Store: b.store}
	e := b.engineOn(l, definition(w, w.make("c")))
	for b.op(id).State == trove.OperationOpen {
		_, err := e.RunOne(t.Context())
		if err != nil && !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		b.clock.Add(time.Second)
	}
	if b.op(id).State != trove.OperationDone || b.quota() != 11 {
		t.Errorf("got %+v with %d writes", b.op(id), b.quota())
	}
	if l.n < 8 {
		t.Errorf("only %d commits", l.n)
	}
}

// lossy loses the answer of every second commit.
type lossy struct {
	store.Store

	n int
}

func (l *lossy) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	err := l.Store.InTx(ctx, fn)
	if l.n++; err == nil && l.n%2 == 0 {
		return errDead
	}
	return err
}
