package taskmanager

import (
	"context"
	"fmt"
	"maps"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// The keys of the notes that steps keep for each other.
const (
	noteFailed      = "failed_step" // the step that failed first
	noteToken       = "token"       // sealed
	noteAddresses   = "addresses"   // []trove.Address
	noteCertificate = "certificate" // certificateNote
	noteHostname    = "hostname"    // string
	noteMachine     = "machine"     // the cloud's id
	noteVolume      = "volume"      // the cloud's id
	noteSize        = "size"        // GiB, what the volume really has
	noteBoot        = "boot"        // the machine's boot before it was rebooted
	noteHost        = "host"        // of the machine before it was migrated
	noteLooks       = "looks"       // at something pending
	notePending     = "pending"     // pending
	noteAnew        = "anew"        // how often the machine was made anew
	noteSince       = "since_"      // and the step's name: when it began to wait
	noteBegun       = "begun_"      // and the step's name: whether the guest had the command of the step when its undo asked; if not, it never begins it
	noteHeard       = "heard_"      // and the step's name: when the guest last said that it works on it
)

// blame wraps the undo of a step so that the step that failed is known when the operation closes: undo begins with the failed step's own.
// Every step of an operation whose end depends on it has to be wrapped; a nil undo removes nothing.
func blame(undo workflow.StepFunc) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		var step string
		known, err := op.Note(noteFailed, &step)
		if err != nil {
			return workflow.Outcome{}, fmt.Errorf("read which step failed: %w", err)
		}
		if !known {
			if err := op.SetNote(noteFailed, op.Step()); err != nil {
				return workflow.Outcome{}, fmt.Errorf("note which step failed: %w", err)
			}
		}
		if undo == nil {
			return workflow.Done(), nil
		}
		return undo(ctx, op)
	}
}

// note reads a note that may not be there; v keeps its value then.
func note(op *workflow.Op, key string, v any) error {
	if _, err := op.Note(key, v); err != nil {
		return trove.Permanent(fmt.Errorf("read note %s: %w", key, err))
	}
	return nil
}

// faultOf makes the fault of an operation that did not reach its end.
func faultOf(what string, op *workflow.Op, cause string, now time.Time) *trove.Fault {
	if cause == "" {
		cause = "it was cancelled"
	}
	var step string
	_, _ = op.Note(noteFailed, &step) // evidence only: an unreadable note leaves the step out
	details := fmt.Sprintf("operation %s, request %s", op.ID(), op.RequestID())
	if step != "" {
		details += ", step " + step
	}
	return &trove.Fault{Message: fmt.Sprintf("%s: %s", what, cause), Details: details + ": " + cause, Created: now}
}

// settle gives back what the instance holds of a resource beyond what it should. It may be repeated: what was given back is not held any more.
func settle(ctx context.Context, tx store.Tx, i *trove.Instance, resource string, want int) error {
	excess := i.Held[resource] - want
	if excess <= 0 {
		return nil
	}
	if err := tx.GiveQuota(ctx, i.ProjectID, map[string]int{resource: excess}); err != nil {
		return fmt.Errorf("give back quota: %w", err)
	}
	held := maps.Clone(i.Held)
	held[resource] = want
	i.Held = held
	return nil
}

// giveAll gives back all that the instance holds.
func giveAll(ctx context.Context, tx store.Tx, i *trove.Instance) error {
	if len(i.Held) == 0 {
		return nil
	}
	if err := tx.GiveQuota(ctx, i.ProjectID, i.Held); err != nil {
		return fmt.Errorf("give back quota: %w", err)
	}
	i.Held = nil
	return nil
}

// setTask changes the task unless the instance is to be deleted: that wish stays until the row is gone.
func setTask(i *trove.Instance, t trove.Task) {
	if i.Task != trove.TaskDeleting {
		i.Task = t
	}
}

// closing is how an operation on a living instance ends: change adapts the row for both ends, a failure leaves a fault beside the task.
type closing struct {
	what   string     // of the fault, such as "The restart failed"
	failed trove.Task // the task after a failure
	// restarts says that the engine was restarted, or is down, when it went well: no part of its configuration waits for that any more.
	restarts bool
	keeps    func(*trove.Fault) bool // which fault of before stays when it went well; nil: none
	change   func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error
}

// freeTask returns the task of an instance that is free: none, or the sign that its configuration waits for a restart.
func (m *Manager) freeTask(ctx context.Context, tx store.Tx, instance string, restarted bool) (trove.Task, error) {
	c, err := tx.InstanceConfiguration(ctx, instance)
	if err != nil {
		return trove.TaskNone, err //nolint:wrapcheck // says of which instance
	}
	switch {
	case !c.Restart:
		return trove.TaskNone, nil
	case !restarted:
		return trove.TaskRestartRequired, nil
	}
	return trove.TaskNone, tx.SetConfigurationRestart(ctx, instance, false) //nolint:wrapcheck // says of which instance
}

// closed makes the Closed function of a definition.
func (m *Manager) closed(c closing) func(context.Context, store.Tx, *workflow.Op, trove.OperationState, string) error {
	return func(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
		ok, now := state == trove.OperationDone, m.clock.Now()
		deleting := false
		free, err := m.freeTask(ctx, tx, op.Target(), ok && c.restarts)
		if err != nil {
			return err
		}
		err = tx.UpdateInstance(ctx, op.Target(), now, func(i *trove.Instance) error {
			if c.change != nil {
				if err := c.change(ctx, tx, op, i, ok); err != nil {
					return err
				}
			}
			deleting = i.Task == trove.TaskDeleting
			if ok {
				setTask(i, free)
				if c.keeps == nil || !c.keeps(i.Fault) {
					i.Fault = nil
				}
				return nil
			}
			if c.failed != trove.TaskNone {
				free = c.failed
			}
			setTask(i, free)
			i.Fault = faultOf(c.what, op, cause, now)
			return nil
		})
		if err != nil {
			return fmt.Errorf("write the end of operation %s: %w", op.ID(), err)
		}
		if deleting {
			m.deletes.Add(op.Target())
		}
		return nil
	}
}
