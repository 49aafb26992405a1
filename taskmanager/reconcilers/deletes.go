package reconcilers

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// Deletes turns the wish to delete (task DELETING) into the delete operation. A user may ask for a delete while another operation is open: the
// API then sets the task and cancels the operation, and the delete follows when the instance is unlocked. It also begins a delete
// again that failed.
type Deletes struct{ cfg Config }

func (d *Deletes) concerns(i *trove.Instance, _ time.Time) bool { return i.Task == trove.TaskDeleting }

// ReconcileOne enqueues the delete of an instance whose task is DELETING. While another operation is open it is cancelled, and
// store.ErrBusy is returned.
func (d *Deletes) ReconcileOne(ctx context.Context, id string) error {
	enqueued, busy := false, false
	err := d.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		enqueued, busy = false, false
		i, err := tx.Instance(ctx, id)
		if trove.IsNotFound(err) || err == nil && i.Task != trove.TaskDeleting {
			return nil
		}
		if err != nil {
			return err
		}
		open, err := tx.OpenOperation(ctx, id)
		switch {
		case trove.IsNotFound(err):
			enqueued = true
			// Where transactions see each other's ends, the delete that was open when the row was read may have ended since: then the row is not what it was.
			if err := tx.UpdateInstance(ctx, id, i.Updated, func(*trove.Instance) error { return nil }); err != nil {
				return err
			}
			_, err := workflow.Enqueue(ctx, tx, d.cfg.Clock.Now(), workflow.Request{
				Kind: trove.OpDelete, Target: id, ProjectID: i.ProjectID, RequestID: telemetry.NewRequestID(),
			})
			return err
		case err != nil || open.Kind == trove.OpDelete:
			return err
		}
		busy = true
		if open.Cancelled {
			return nil
		}
		if err := tx.CancelOperation(ctx, open.ID, d.cfg.Clock.Now()); !trove.IsNotFound(err) { // not found: it ended between the two statements
			return err
		}
		return nil
	})
	switch {
	case errors.Is(err, store.ErrBusy), err == nil && busy:
		return fmt.Errorf("delete %s: %w", id, store.ErrBusy)
	case err != nil:
		return fmt.Errorf("delete %s: %w", id, err)
	case enqueued:
		d.cfg.Wake()
	}
	return nil
}

// Stuck frees instances whose task says that something works on them although no operation is open. API and operations write both in one
// transaction, so there are none; after a store was restored from a copy there may be.
type Stuck struct{ cfg Config }

// stuckAfter is how long the row must have been left alone.
const stuckAfter = time.Minute

func (s *Stuck) concerns(i *trove.Instance, now time.Time) bool {
	switch i.Task {
	case trove.TaskBuilding, trove.TaskRebooting, trove.TaskResizing, trove.TaskUpdating, trove.TaskMigrating:
		return now.Sub(i.Updated) > stuckAfter
	}
	return false
}

// ReconcileOne frees the instance with a fault that says so. A build that nobody goes on with is an error.
func (s *Stuck) ReconcileOne(ctx context.Context, id string) error {
	freed, now := false, s.cfg.Clock.Now()
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		freed = false
		i, err := tx.Instance(ctx, id)
		if err != nil || !s.concerns(&i, now) {
			return err
		}
		if _, err := tx.OpenOperation(ctx, id); !trove.IsNotFound(err) {
			return err
		}
		freed = true
		message := fmt.Sprintf("Nothing worked on the instance any more while it was %s.", i.Task.Action())
		e := trove.InstanceEvent{InstanceID: id, At: now, Kind: trove.EventTaskDropped, Sentence: message}
		if err := tx.CountInstanceEvent(ctx, e, countedWithin); err != nil {
			return err
		}
		return tx.UpdateInstance(ctx, id, now, func(i *trove.Instance) error {
			i.Fault = &trove.Fault{Message: message, Created: now}
			if i.Task == trove.TaskBuilding {
				i.CutOff()
			} else {
				i.Task = trove.TaskNone
			}
			return nil
		})
	})
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("free %s: %w", id, err)
	}
	if freed {
		s.cfg.Log.ErrorContext(ctx, "instance had a task without an operation and was freed", "instance", id)
	}
	return nil
}
