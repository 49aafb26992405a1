package workflow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

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

func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name string
		runs int // how often the engine runs before the cancel
		want []string
	}{
		{"before the start", 0, []string{"remove a"}},
		{"while it waits", 1, []string{"make a", "remove b", "remove a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBed(t), newWorld()
			e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{
				{Name: "a", Do: w.make("a"), Undo: w.remove("a")},
				{Name: "b", Do: func(context.Context, *workflow.Op) (workflow.Outcome, error) {
					return workflow.WaitFor("waiting for the guest"), nil
				}, Undo: w.remove("b")},
			}})
			id := b.enqueue("k")
			for range c.runs {
				b.one(e)
			}
			if err := e.Cancel(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if !b.one(e) {
				t.Fatal("the cancel did not wake the operation")
			}
			if op := b.op(id); op.State != trove.OperationUndone || op.Error != "it was cancelled" {
				t.Errorf("got %+v", op)
			}
			if d := cmp.Diff(c.want, w.calls); d != "" {
				t.Error(d)
			}
			if err := e.Cancel(t.Context(), id); !trove.IsNotFound(err) {
				t.Errorf("cancelled a closed operation: %v", err)
			}
		})
	}
}

// TestEventBetweenLookAndRelease signals while the step has looked and not yet gone to wait.
func TestEventBetweenLookAndRelease(t *testing.T) {
	b := newBed(t)
	var e *workflow.Engine
	looks := 0
	e = b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		if looks++; looks == 1 {
			if err := e.Signal(ctx, op.Target()); err != nil {
				t.Error(err)
			}
			return workflow.WaitFor("waiting for the guest"), nil
		}
		return workflow.Done(), nil
	}}}})
	id := b.enqueue("k")
	b.one(e)
	if !b.one(e) { // the clock stands
		t.Error("the operation slept over the event")
	}
	if op := b.op(id); op.State != trove.OperationDone {
		t.Errorf("got %+v", op)
	}
}

func TestWaits(t *testing.T) {
	b := newBed(t)
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Weight: 2, Do: script(
		func(op *workflow.Op) (workflow.Outcome, error) {
			op.Say(t.Context(), 50, "copying %d of %d", 1, 2)
			if got := b.op(op.ID()); got.Sentence != "copying 1 of 2" || got.Percent != 33 {
				t.Errorf("said: %+v", got)
			}
			return workflow.Again(3*time.Second, "waiting for the copy"), nil
		},
		func(op *workflow.Op) (workflow.Outcome, error) {
			return workflow.WaitFor("waiting for the report"), nil
		},
		done,
	)}, {Name: "b", Do: script(fails(trove.Errorf(trove.KindUnavailable, "The cloud is busy.")), done)}}})
	id := b.enqueue("k")
	before := b.op(id).Version
	for _, step := range []struct {
		wait     time.Duration
		sentence string
		percent  int
		attempt  int
	}{
		{0, "waiting for the copy", 33, 1},
		{3 * time.Second, "waiting for the report", 33, 2},
		{workflow.LookAgain, "b: The cloud is busy; trying again in 200ms", 66, 1},
		{200 * time.Millisecond, "done", 100, 1},
	} {
		if step.wait > 0 {
			b.clock.Add(step.wait - time.Microsecond)
			if b.one(e) {
				t.Errorf("it ran before %s", step.wait)
			}
			b.clock.Add(time.Microsecond)
		}
		if !b.one(e) {
			t.Fatalf("it did not run after %s", step.wait)
		}
		op := b.op(id)
		if op.Sentence != step.sentence || op.Percent != step.percent || op.Attempt != step.attempt || op.Version <= before {
			t.Errorf("want %+v, got %+v", step, op)
		}
		before = op.Version
	}
	want := []string{"a started", "a again", "a done", "b started", "b failed", "b done", "b closed"}
	if d := cmp.Diff(want, b.log(id)); d != "" {
		t.Error(d)
	}
}

func TestStepDeadlineCountsFromTheFirstStart(t *testing.T) {
	b, w := newBed(t), newWorld()
	def := &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Deadline: 20 * time.Second, Undo: w.remove("a"), Do: script(
		func(*workflow.Op) (workflow.Outcome, error) {
			return workflow.Again(15*time.Second, "waiting for the machine"), nil
		},
	)}}}
	id := b.enqueue("k")
	b.one(b.engine(def))
	b.clock.Add(15 * time.Second)
	b.one(b.engine(def)) // another process; its wait is cut to the deadline
	b.clock.Add(5*time.Second - time.Microsecond)
	if b.one(b.engine(def)) {
		t.Error("it ran before the deadline")
	}
	b.clock.Add(time.Microsecond)
	if !b.one(b.engine(def)) {
		t.Error("the deadline did not wake it")
	}
	op := b.op(id)
	if op.State != trove.OperationUndone || op.Error != "waiting for the machine: not done within 20s" {
		t.Errorf("got %+v", op)
	}
}

func TestEachStepHasADeadlineOfItsOwn(t *testing.T) {
	b := newBed(t)
	wait := func(*workflow.Op) (workflow.Outcome, error) { return workflow.Again(15*time.Second, "waiting"), nil }
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{
		{Name: "a", Deadline: 20 * time.Second, Do: script(wait, done)},
		{Name: "b", Deadline: 20 * time.Second, Do: script(wait, done)},
	}})
	if op := b.finish(e, b.enqueue("k")); op.State != trove.OperationDone {
		t.Errorf("got %+v", op)
	}
}

// TestAFailureStaysOneWhenItsEndCannotBeWritten: the step would succeed if it ran again.
func TestAFailureStaysOneWhenItsEndCannotBeWritten(t *testing.T) {
	b := newBed(t)
	ends := 0
	e := b.engine(&workflow.Definition{
		Kind: "k", Steps: []workflow.Step{{Name: "a", Do: script(fails(errHard), done)}},
		Closed: func(context.Context, store.Tx, *workflow.Op, trove.OperationState, string) error {
			if ends++; ends == 1 {
				return errSoft
			}
			return nil
		},
	})
	if op := b.finish(e, b.enqueue("k")); op.State != trove.OperationFailed || op.Error != "there is no such flavor" || ends != 2 {
		t.Errorf("after %d ends: %+v", ends, op)
	}
}

func TestOperationDeadline(t *testing.T) {
	b, w := newBed(t), newWorld()
	e := b.engine(&workflow.Definition{Kind: "k", Deadline: time.Minute, Steps: []workflow.Step{{Name: "a", Undo: w.remove("a"), Do: script(
		func(*workflow.Op) (workflow.Outcome, error) { return workflow.WaitFor("waiting for the guest"), nil },
	)}}})
	op := b.finish(e, b.enqueue("k"))
	if op.State != trove.OperationUndone || op.Error != "waiting for the guest: the whole operation took longer than 1m0s" {
		t.Errorf("got %+v", op)
	}
	if took := op.Updated.Sub(start); took != time.Minute {
		t.Errorf("it took %s", took)
	}
}

// TestUndoIsRetriedForEver goes far beyond every deadline, and past a cancel, which changes nothing.
func TestUndoIsRetriedForEver(t *testing.T) {
	b := newBed(t)
	broken := true
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{
		Name: "a", Do: script(fails(errHard)), Deadline: time.Second,
		Undo: func(context.Context, *workflow.Op) (workflow.Outcome, error) {
			if broken {
				return workflow.Outcome{}, trove.Errorf(trove.KindConflict, "The volume is attached.") // permanent, and still tried again
			}
			return workflow.Done(), nil
		},
	}}})
	id := b.enqueue("k")
	b.one(e)
	var at []time.Duration
	for b.clock.Now().Before(start.Add(2 * time.Hour)) {
		if b.one(e) {
			at = append(at, b.clock.Now().Sub(start))
		}
		if len(at) < 8 {
			b.clock.Add(100 * time.Millisecond)
		} else {
			b.clock.Add(10 * time.Second)
		}
	}
	var want []time.Duration
	for _, ms := range []int{200, 600, 1400, 3000, 6200, 12600, 22600, 32600} {
		want = append(want, time.Duration(ms)*time.Millisecond)
	}
	if d := cmp.Diff(want, at[:len(want)]); d != "" {
		t.Error(d)
	}
	op := b.op(id)
	if op.State != trove.OperationOpen || !op.Undoing || op.Error != "there is no such flavor" || op.Sentence != "undoing: a: The volume is attached; trying again in 10s" {
		t.Errorf("got %+v", op)
	}
	if n := len(b.log(id)); n > 30 {
		t.Errorf("%d lines in the timeline after %d attempts", n, len(at))
	}
	if err := e.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	broken = false
	if op := b.finish(e, id); op.State != trove.OperationUndone || op.Error != "there is no such flavor" {
		t.Errorf("got %+v", op)
	}
}

func TestPanicIsAnError(t *testing.T) {
	b := newBed(t)
	e := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: script(
		func(*workflow.Op) (workflow.Outcome, error) { panic("out of cheese") }, done,
	)}}})
	op := b.finish(e, b.enqueue("k"))
	if op.State != trove.OperationDone {
		t.Errorf("got %+v", op)
	}
	if took := op.Updated.Sub(start); took == 0 {
		t.Error("the panic went unnoticed")
	}
}

func TestWritesThatFailAreTheStepsErrors(t *testing.T) {
	b, w := newBed(t), newWorld()
	fail := map[string]error{"commit": errSoft, "closed": errSoft}
	once := func(what string) error {
		err := fail[what]
		delete(fail, what)
		return err
	}
	e := b.engine(&workflow.Definition{
		Kind: "k",
		Steps: []workflow.Step{
			{Name: "a", Do: func(context.Context, *workflow.Op) (workflow.Outcome, error) {
				return workflow.DoneWith(func(ctx context.Context, tx store.Tx) error { return errors.Join(takes(ctx, tx), once("commit")) }), nil
			}},
			{Name: "b", Do: w.make("b"), Undo: w.remove("b")},
		},
		Closed: func(ctx context.Context, tx store.Tx, op *workflow.Op, st trove.OperationState, cause string) error {
			return errors.Join(takes2(ctx, tx, op, st, cause), once("closed"))
		},
	})
	id := b.enqueue("k")
	if op := b.finish(e, id); op.State != trove.OperationDone || b.quota() != 11 {
		t.Errorf("got %+v, %d", op, b.quota())
	}
	want := []string{"a started", "a failed", "a done", "b started", "b failed", "b done", "b closed"}
	if d := cmp.Diff(want, b.log(id)); d != "" {
		t.Error(d)
	}

	fail["closed"] = errHard // the end cannot be written as done: the operation is undone
	if op := b.finish(e, b.enqueue("k")); op.State != trove.OperationUndone || op.Error != "there is no such flavor" {
		t.Errorf("got %+v", op)
	}
}

func TestUnknownKindIsLeftToOthers(t *testing.T) {
	b, w := newBed(t), newWorld()
	older := b.engine(&workflow.Definition{Kind: "other", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}}})
	newer := b.engine(&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}}})
	id := b.enqueue("k")
	b.one(older)
	if b.one(older) {
		t.Error("it was looked at again at once")
	}
	if op := b.op(id); op.State != trove.OperationOpen || op.Sentence != "waiting for a worker that knows k" {
		t.Errorf("got %+v", op)
	}
	if op := b.finish(newer, id); op.State != trove.OperationDone {
		t.Errorf("got %+v", op)
	}
}

func TestNewRefusesBadDefinitions(t *testing.T) {
	step := workflow.Step{Name: "a", Do: script(done)}
	for name, defs := range map[string][]*workflow.Definition{
		"no steps":   {{Kind: "k"}},
		"no kind":    {{Steps: []workflow.Step{step}}},
		"same names": {{Kind: "k", Steps: []workflow.Step{step, step}}},
		"no name":    {{Kind: "k", Steps: []workflow.Step{{Do: script(done)}}}},
		"no do":      {{Kind: "k", Steps: []workflow.Step{{Name: "a"}}}},
		"same kinds": {{Kind: "k", Steps: []workflow.Step{step}}, {Kind: "k", Steps: []workflow.Step{step}}},
	} {
		if _, err := workflow.New(workflow.Config{Store: openStore(t), Definitions: defs}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStepNames(t *testing.T) {
	got := workflow.StepNames(
		&workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: script(done)}, {Name: "b", Do: script(done), Undo: script(done)}}},
		&workflow.Definition{Kind: "l", Steps: []workflow.Step{{Name: "c", Do: script(done)}}},
	)
	if d := cmp.Diff("k 0 a\nk 1 b undo\nl 0 c\n", got); d != "" {
		t.Error(d)
	}
}

func TestMetrics(t *testing.T) {
	b, w := newBed(t), newWorld()
	reg := prometheus.NewRegistry()
	e, err := workflow.New(workflow.Config{
		Store: b.store, Clock: b.clock, Metrics: reg,
		Definitions: []*workflow.Definition{{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}, {Name: "b", Do: script(fails(errSoft))}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.enqueue("k")
	b.enqueue("nobody's")
	b.one(e)
	b.one(e)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"trove_workflow_steps_total k done a": 1, "trove_workflow_steps_total k error b": 1, "trove_workflow_step_seconds k a": 1, "trove_workflow_step_seconds k b": 1,
		"trove_workflow_running_operations": 0, "trove_workflow_open_operations": 2, "trove_workflow_lost_claims_total": 0,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
