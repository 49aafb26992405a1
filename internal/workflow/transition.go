package workflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// save writes a transition and keeps the lease.
func (r *run) save(ctx context.Context, row store.OperationRow, events []trove.OperationEvent, outcome string, commit commitFunc) (bool, error) {
	step := r.row.Step
	err := r.write(ctx, events, func(ctx context.Context, tx store.Tx, now time.Time) error {
		if commit != nil {
			if err := commit(ctx, tx); err != nil {
				return commitError{err}
			}
		}
		next := row
		next.Owner, next.WakeAt = r.lease.owner, now.Add(r.engine.cfg.Lease)
		saved, err := tx.SaveOperation(ctx, next, now)
		if err == nil {
			r.row = saved
		}
		return err //nolint:wrapcheck // wrapped by write
	})
	if e, ok := errors.AsType[commitError](err); ok {
		return r.failed(ctx, withNotes(r.row, row), e.error)
	}
	if err != nil {
		return false, err
	}
	r.count(step, outcome)
	return true, nil
}

// release writes a row that anyone may look at after the delay.
func (r *run) release(ctx context.Context, row store.OperationRow, events []trove.OperationEvent, after time.Duration) (bool, error) {
	var wake time.Time
	err := r.write(ctx, events, func(ctx context.Context, tx store.Tx, now time.Time) error {
		row := row
		row.Owner, row.WakeAt = "", now.Add(max(0, after))
		saved, err := tx.SaveOperation(ctx, row, now)
		wake = saved.WakeAt
		return err //nolint:wrapcheck // wrapped by write
	})
	if err != nil {
		return false, err
	}
	crashPoint(row.Kind, row.Step, row.Undoing, "waited")
	if left := wake.Sub(r.engine.cfg.Clock.Now()); left < r.engine.cfg.Poll && ctx.Err() == nil {
		time.AfterFunc(max(0, left), r.engine.Wake) // polling alone would add up to its interval
	}
	return false, nil
}

// close ends the operation.
func (r *run) close(ctx context.Context, row store.OperationRow, state trove.OperationState, events []trove.OperationEvent, commit commitFunc) (bool, error) {
	step := r.row.Step
	cause := row.Error
	if state == trove.OperationDone {
		row.Percent, row.Sentence = 100, "done"
	} else {
		row.Sentence = cause
	}
	events = append(events, trove.OperationEvent{Step: row.Step, Outcome: "closed", Sentence: row.Sentence})
	err := r.write(ctx, events, func(ctx context.Context, tx store.Tx, now time.Time) error {
		if commit != nil {
			if err := commit(ctx, tx); err != nil {
				return commitError{err}
			}
		}
		if r.def.Closed != nil {
			op, err := (&run{engine: r.engine, def: r.def, row: row}).op()
			if err == nil {
				err = r.def.Closed(ctx, tx, op, state, cause)
			}
			if err != nil {
				return commitError{err}
			}
		}
		return tx.CloseOperation(ctx, row, state, now) //nolint:wrapcheck // wrapped by write
	})
	if e, ok := errors.AsType[commitError](err); ok {
		return r.closeFailed(ctx, row, state, e.error)
	}
	if err != nil {
		return false, err
	}
	crashPoint(row.Kind, row.Step, row.Undoing, "closed")
	r.count(step, events[0].Outcome)
	r.engine.metrics.closed.WithLabelValues(r.def.Kind, string(state)).Inc()
	r.engine.cfg.Log.InfoContext(ctx, "operation closed", "op", row.ID, "instance", row.Target, "kind", row.Kind, "state", string(state), "cause", cause)
	return false, nil
}

// closeFailed handles an error of Closed: it counts as one of the last step's; a row that was to be turned around stays turned around.
func (r *run) closeFailed(ctx context.Context, row store.OperationRow, state trove.OperationState, err error) (bool, error) {
	back := withNotes(r.row, row)
	if state != trove.OperationDone {
		back.Undoing, back.Error = true, row.Error
	}
	return r.failed(ctx, back, err)
}

// withNotes returns the stored row with the notes of another one.
func withNotes(row, from store.OperationRow) store.OperationRow {
	row.Notes = from.Notes
	return row
}

type commitFunc = func(ctx context.Context, tx store.Tx) error

// commitError is an error of what a step or definition wants written, as opposed to one of the store's transition.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

// write runs one transition with its lines of the timeline. After the end of the caller's context it still has a little time, so that leases are
// given back at shutdown. An error that is none of commit's means that the row's fate is unknown: the caller drops it, and the lease's end frees it.
func (r *run) write(ctx context.Context, events []trove.OperationEvent, transition func(context.Context, store.Tx, time.Time) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
	defer cancel()
	before := r.row
	err := r.engine.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := r.engine.cfg.Clock.Now()
		if err := transition(ctx, tx, now); err != nil {
			return err
		}
		for _, e := range events {
			e.OperationID, e.At = before.ID, now
			if err := tx.AppendOperationLog(ctx, e); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
		}
		return nil
	})
	if err != nil {
		r.row = before
		return fmt.Errorf("write operation %s: %w", before.ID, err)
	}
	return nil
}
