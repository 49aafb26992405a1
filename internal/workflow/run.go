package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

const (
	defaultDeadline = time.Hour
	// errorsFor is how long temporary errors of a step without a deadline are tried again.
	errorsFor = 10 * time.Minute
	// firstRetry and lastRetry are the delays after temporary errors; they double in between.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
	// unknownAgain is when a kind is looked at again that no definition of this process has: a newer process may be there by then.
	unknownAgain = 30 * time.Second
	// giveBack is how long a shutdown may take to give one lease back.
	giveBack = 5 * time.Second
)

// run is a claimed row and the work on it.
type run struct {
	engine *Engine
	def    *Definition
	lease  *lease
	row    store.OperationRow // as it is in the store
}

// claim takes a row and, if it is new, starts its first step. It returns nil without an error when the kind is not known here.
func (e *Engine) claim(ctx context.Context, seen store.OperationRow) (*run, error) {
	owner := fmt.Sprintf("%s/%d", e.cfg.Owner, e.claims.Add(1))
	def := e.defs[seen.Kind]
	var row store.OperationRow
	err := e.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := e.cfg.Clock.Now()
		var err error
		if row, err = tx.ClaimOperation(ctx, seen, owner, now.Add(e.cfg.Lease)); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		if def == nil {
			row.Owner, row.WakeAt, row.Sentence = "", now.Add(unknownAgain), "waiting for a worker that knows "+row.Kind
			_, err = tx.SaveOperation(ctx, row, now)
			return err //nolint:wrapcheck // wrapped below
		}
		if !row.StepStarted.IsZero() {
			return nil
		}
		row.Steps, row.Step, row.StepStarted, row.Sentence = len(def.Steps), def.Steps[0].Name, now, def.Steps[0].words()
		row.Deadline = now.Add(orElse(def.Deadline, defaultDeadline))
		if row, err = tx.SaveOperation(ctx, row, now); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		return tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: row.ID, At: now, Step: row.Step, Outcome: "started"}) //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("claim operation %s: %w", seen.ID, err)
	}
	if def == nil {
		e.cfg.Log.WarnContext(ctx, "operation of an unknown kind left alone", "op", row.ID, "instance", row.Target)
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	return &run{engine: e, def: def, row: row, lease: e.newLease(ctx, owner)}, nil
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// words turns the name of a step into what people read until the step says something itself.
func (s Step) words() string {
	if s.Says != "" {
		return s.Says
	}
	return strings.ReplaceAll(s.Name, "_", " ")
}

// once runs the step that the row is in and writes what came of it; false when the row is released or closed.
func (r *run) once(ctx context.Context) (again bool, err error) {
	if ctx.Err() != nil {
		return r.release(ctx, r.row, nil, 0)
	}
	now := r.engine.cfg.Clock.Now()
	if !r.row.Undoing {
		if cause, outcome := r.overdue(now); cause != "" {
			return r.startUndo(ctx, r.row, outcome, cause)
		}
	}
	op, err := r.op()
	if err != nil {
		return r.failed(ctx, r.row, trove.Permanent(err))
	}
	crashPoint(r.row.Kind, r.row.Step, r.row.Undoing, "before")
	out, err := r.call(ctx, op, now)
	if err == nil && out.kind == outcomeDone && !r.row.Undoing {
		err = failPoint(r.row.Kind, r.row.Step)
	}
	crashPoint(r.row.Kind, r.row.Step, r.row.Undoing, "after")
	if r.lease.lost() {
		return false, store.ErrLost
	}
	row, nerr := op.stored()
	if err = errors.Join(err, nerr); err != nil {
		if ctx.Err() != nil { // it was cut off by the shutdown: no fault of its own
			return r.release(ctx, row, nil, 0)
		}
		return r.failed(ctx, row, err)
	}
	if out.kind == outcomeDone {
		return r.finished(ctx, row, out)
	}
	return r.waits(ctx, row, out, now)
}

// overdue says why the row may not go on forwards, if it may not.
func (r *run) overdue(now time.Time) (cause, outcome string) {
	step := r.def.Steps[r.row.StepNo]
	switch {
	case r.row.Cancelled:
		return "it was cancelled", "cancelled"
	case step.Deadline > 0 && !now.Before(r.row.StepStarted.Add(step.Deadline)):
		return late(fmt.Sprintf("%s: not done within %s", r.row.Sentence, step.Deadline), step.Late), "failed"
	case !now.Before(r.row.Deadline):
		return fmt.Sprintf("%s: the whole operation took longer than %s", r.row.Sentence, orElse(r.def.Deadline, defaultDeadline)), "failed"
	}
	return "", ""
}

// late puts what a missed deadline means behind what was waited for.
func late(what, means string) string {
	if means == "" {
		return what
	}
	return what + ". " + means
}

// limit is the time at which a step that goes forwards has to be looked at, whatever it waits for.
func (r *run) limit() time.Time {
	end := r.row.Deadline
	if d := r.def.Steps[r.row.StepNo].Deadline; d > 0 && r.row.StepStarted.Add(d).Before(end) {
		end = r.row.StepStarted.Add(d)
	}
	return end
}

// op makes the view of the row that the step gets.
func (r *run) op() (*Op, error) {
	o := &Op{row: r.row, notes: map[string]json.RawMessage{}}
	if len(r.row.Notes) > 0 {
		if err := json.Unmarshal(r.row.Notes, &o.notes); err != nil {
			return nil, fmt.Errorf("read the notes of operation %s: %w", r.row.ID, err)
		}
	}
	o.say = func(ctx context.Context, sentence string, percent int) {
		o.row.Sentence, o.row.Percent = sentence, r.percent(o.row, percent)
		err := r.engine.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			return tx.SayOperation(ctx, o.row.ID, sentence, o.row.Percent, r.engine.cfg.Clock.Now())
		})
		if err != nil { // it is for people only
			r.engine.cfg.Log.DebugContext(ctx, "sentence not written", "op", o.row.ID, "err", err)
		}
	}
	return o, nil
}

// stored returns the row with the notes as they are after the step.
func (o *Op) stored() (store.OperationRow, error) {
	row := o.row
	if len(o.notes) > 0 {
		raw, err := json.Marshal(o.notes)
		if err != nil {
			return row, fmt.Errorf("encode the notes of operation %s: %w", row.ID, err)
		}
		row.Notes = raw
	}
	return row, nil
}

// percent computes the operation's percentage from the weights of the steps and the percentage of the one that runs. It never falls.
func (r *run) percent(row store.OperationRow, ofStep int) int {
	if row.Undoing {
		return row.Percent
	}
	total, before, own := 0, 0, 0
	for n, s := range r.def.Steps {
		w := max(1, s.Weight)
		total += w
		switch {
		case n < row.StepNo:
			before += w
		case n == row.StepNo:
			own = w
		}
	}
	return max(row.Percent, (100*before+own*min(100, max(0, ofStep)))/total)
}

// call runs the step's function under the lease and the deadlines; a panic is an error.
func (r *run) call(ctx context.Context, op *Op, now time.Time) (out Outcome, err error) {
	step := r.def.Steps[r.row.StepNo]
	do := step.Do
	if r.row.Undoing {
		do = step.Undo
	}
	if do == nil {
		return Done(), nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !r.row.Undoing {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.limit().Sub(now))
		defer stop()
	}
	// The lease outlives the context at shutdown, so the step's context is the caller's, cut off when the lease is in danger.
	watched := make(chan struct{})
	defer close(watched)
	go func() {
		select {
		case <-r.lease.done:
			cancel(errLeaseLost)
		case <-watched:
		}
	}()
	took := clock.Stopwatch()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("step %s panicked: %v", step.Name, p)
			r.engine.cfg.Log.ErrorContext(ctx, "step panicked", "op", op.ID(), "instance", op.Target(), "step", step.Name, "err", err, "stack", string(debug.Stack()))
		}
		r.engine.metrics.took.WithLabelValues(r.def.Kind, step.Name).Observe(took().Seconds())
	}()
	return do(ctx, op)
}

// finished goes on to the next step, or closes.
func (r *run) finished(ctx context.Context, row store.OperationRow, out Outcome) (bool, error) {
	now := r.engine.cfg.Clock.Now()
	outcome := "done"
	next := row.StepNo + 1
	if row.Undoing {
		outcome = "undone"
		next = r.undoable(row.StepNo - 1)
	}
	events := []trove.OperationEvent{{Step: row.Step, Outcome: outcome}}
	state := trove.OperationOpen
	switch {
	case row.Undoing && next < 0:
		state = r.undoneState()
	case next >= len(r.def.Steps):
		state = trove.OperationDone
	}
	if state != trove.OperationOpen {
		return r.close(ctx, row, state, events, out.commit)
	}
	r.enter(&row, next, now)
	events = append(events, trove.OperationEvent{Step: row.Step, Outcome: "started"})
	return r.save(ctx, row, events, outcome, out.commit)
}

// undoable returns the number of the first step from n down that has something to undo, -1 if there is none.
func (r *run) undoable(n int) int {
	for ; n >= 0; n-- {
		if r.def.Steps[n].Undo != nil {
			return n
		}
	}
	return -1
}

// undoneState is how an operation ends that did not reach its end.
func (r *run) undoneState() trove.OperationState {
	if r.undoable(len(r.def.Steps)-1) < 0 {
		return trove.OperationFailed
	}
	return trove.OperationUndone
}

// enter puts the row at the beginning of a step.
func (r *run) enter(row *store.OperationRow, step int, now time.Time) {
	row.StepNo, row.Step, row.Attempt, row.StepStarted = step, r.def.Steps[step].Name, 0, now
	row.Percent = r.percent(*row, 0)
	row.Sentence = r.def.Steps[step].words()
	if row.Undoing {
		row.Sentence = "undoing: " + row.Sentence
	}
}

// waits releases the row until the step shall run again.
func (r *run) waits(ctx context.Context, row store.OperationRow, out Outcome, now time.Time) (bool, error) {
	outcome := "again"
	if out.kind == outcomeWait {
		outcome = "waiting"
	}
	if out.sentence != "" {
		row.Sentence = out.sentence
	}
	var events []trove.OperationEvent
	if row.Attempt == 0 { // not every look: the sentence of the operation is the current one
		events = []trove.OperationEvent{{Step: row.Step, Outcome: outcome, Sentence: row.Sentence}}
	}
	row.Attempt++
	r.count(row.Step, outcome)
	// From when the step looked: the time that it took must not be added to the wait, and a manual clock of a test may have been moved.
	wake := now.Add(out.after)
	if !row.Undoing && wake.After(r.limit()) {
		wake = r.limit()
	}
	return r.release(ctx, row, events, wake.Sub(r.engine.cfg.Clock.Now()))
}

// failed decides what an error means: try again later, or undo.
func (r *run) failed(ctx context.Context, row store.OperationRow, err error) (bool, error) {
	now := r.engine.cfg.Clock.Now()
	r.engine.cfg.Log.WarnContext(ctx, "step failed", "op", row.ID, "instance", row.Target, "step", row.Step, "attempt", row.Attempt,
		"undoing", row.Undoing, "err", err)
	message := trove.MessageOf(err)
	tooLong := r.def.Steps[row.StepNo].Deadline == 0 && !now.Before(row.StepStarted.Add(errorsFor))
	if !row.Undoing && (trove.IsPermanent(err) || tooLong) {
		return r.startUndo(ctx, row, "failed", message)
	}
	r.count(row.Step, "error")
	delay := lastRetry
	if row.Attempt < 6 {
		delay = min(lastRetry, firstRetry<<row.Attempt)
	}
	doing := r.def.Steps[row.StepNo].words()
	if row.Undoing {
		doing = "undoing: " + doing
	}
	row.Sentence = fmt.Sprintf("%s: %s; trying again in %s", doing, strings.TrimSuffix(message, "."), delay)
	var events []trove.OperationEvent
	// Each of the first and then ever fewer, because an undo may fail for days.
	if row.Attempt < 10 || row.Attempt&(row.Attempt-1) == 0 {
		events = []trove.OperationEvent{{Step: row.Step, Outcome: "failed", Sentence: message}}
	}
	row.Attempt++
	if !row.Undoing {
		if left := r.limit().Sub(now); left < delay {
			delay = left
		}
	}
	return r.release(ctx, row, events, delay)
}

// startUndo turns the row around, beginning with the undo of the step that it is in: it may have acted.
func (r *run) startUndo(ctx context.Context, row store.OperationRow, outcome, cause string) (bool, error) {
	events := []trove.OperationEvent{{Step: row.Step, Outcome: outcome, Sentence: cause}}
	row.Undoing, row.Error = true, cause
	n := r.undoable(row.StepNo)
	if n < 0 {
		return r.close(ctx, row, r.undoneState(), events, nil)
	}
	r.enter(&row, n, r.engine.cfg.Clock.Now())
	return r.save(ctx, row, events, outcome, nil)
}

// count counts a run of a step.
func (r *run) count(step, outcome string) {
	r.engine.metrics.steps.WithLabelValues(r.def.Kind, step, outcome).Inc()
}
