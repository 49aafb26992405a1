package workflow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

var (
	errSoft = errors.New("the cloud is busy")
	errHard = trove.Permanent(trove.Errorf(trove.KindUnavailable, "there is no such flavor"))
)

func TestStepsRunInOrderAndClose(t *testing.T) {
	b, w := newBed(t), newWorld()
	var closed []string
	e := b.engine(&workflow.Definition{
		Kind: "k",
		Steps: []workflow.Step{
			{Name: "a", Do: w.make("a"), Undo: w.remove("a")},
			{Name: "b", Do: w.make("b"), Weight: 3},
		},
		Closed: func(_ context.Context, _ store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
			closed = append(closed, op.Target()+string(state)+cause)
			return nil
		},
	})
	id := b.enqueue("k")
	if !b.one(e) {
		t.Fatal("nothing was due")
	}
	op := b.op(id)
	want := trove.Operation{
		ID: id, Kind: "k", Target: op.Target, ProjectID: "p", RequestID: "req-1", State: trove.OperationDone, Step: "b", StepNo: 1, Steps: 2,
		Sentence: "done", Percent: 100, Created: start, Updated: start, Deadline: start.Add(time.Hour), Version: op.Version,
	}
	if d := cmp.Diff(want, op); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"a started", "a done", "b started", "b done", "b closed"}, b.log(id)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"make a", "make b"}, w.calls); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{op.Target + "done"}, closed); d != "" {
		t.Error(d)
	}
	if b.one(e) {
		t.Error("a closed operation was due")
	}
}

func TestPermanentErrorUndoesFromTheFailedStep(t *testing.T) {
	b, w := newBed(t), newWorld()
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{
		{Name: "a", Do: w.make("a"), Undo: w.remove("a")},
		{Name: "b", Do: w.make("b")},
		{Name: "c", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
			_, _ = w.make("c")(ctx, op)
			return workflow.Outcome{}, errHard
		}, Undo: w.remove("c")},
		{Name: "d", Do: w.make("d"), Undo: w.remove("d")},
	}})
	id := b.enqueue("k")
	op := b.finish(e, id)
	if op.State != trove.OperationUndone || op.Error != "there is no such flavor" || !op.Undoing {
		t.Errorf("got %+v", op)
	}
	if d := cmp.Diff([]string{"make a", "make b", "make c", "remove c", "remove a"}, w.calls); d != "" {
		t.Error(d)
	}
	want := []string{"a started", "a done", "b started", "b done", "c started", "c failed", "c undone", "a started", "a undone", "a closed"}
	if d := cmp.Diff(want, b.log(id)); d != "" {
		t.Error(d)
	}
}

func TestTemporaryErrorsAreTriedAgainUntilTheDeadline(t *testing.T) {
	b, w := newBed(t), newWorld()
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{
		{Name: "a", Do: script(fails(errSoft), fails(errSoft), done)},
		{Name: "b", Do: script(fails(errSoft)), Undo: w.remove("b"), Deadline: 30 * time.Second},
	}})
	id := b.enqueue("k")
	op := b.finish(e, id)
	if op.State != trove.OperationUndone {
		t.Errorf("got %+v", op)
	}
	if took := op.Updated.Sub(start); took < 30*time.Second || took > 35*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWithoutUndoTheOperationFails(t *testing.T) {
	b := newBed(t)
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: script(fails(errHard))}}})
	if op := b.finish(e, b.enqueue("k")); op.State != trove.OperationFailed {
		t.Errorf("got %+v", op)
	}
}
