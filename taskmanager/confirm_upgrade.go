package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// stepDrop is the step that gives the command; "<operation>/drop" is its id at the guest.
const stepDrop = "drop"

// confirmUpgrade removes the data that an upgrade has kept. The database runs meanwhile and notices nothing, so the instance keeps its task and its status.
func (m *Manager) confirmUpgrade() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpUpgradeConfirm,
		Deadline: 2 * time.Hour,
		Steps: []workflow.Step{
			{Name: stepDrop, Says: "removing the kept data", Do: m.guestStep(plain(guestapi.CmdDropKept, "removing the kept data")), Undo: blame(nil), Deadline: 90 * time.Minute, Weight: 4},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.confirmClosed,
	}
}

// confirmClosed forgets the kept data. An end that was not good is told by the operation: the database is as well as before.
func (m *Manager) confirmClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	i, err := tx.Instance(ctx, op.Target())
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Task == trove.TaskDeleting {
		m.deletes.Add(op.Target())
	}
	if state != trove.OperationDone {
		m.log.WarnContext(ctx, "kept data was not removed", "instance", op.Target(), "op", op.ID(), "err", cause)
		return nil
	}
	return tx.DeleteKeptData(ctx, op.Target()) //nolint:wrapcheck // says whose
}

// stillKept returns true unless a confirmation since then was given up after its guest had begun to remove the kept data: of what is left then nothing can be
// put back. One that has not begun will not. Otherwise the outcome or the error is the step's.
func (m *Manager) stillKept(ctx context.Context, op *workflow.Op, since time.Time) (bool, workflow.Outcome, error) {
	all, err := m.store.Operations(ctx, op.Target(), 0)
	if err != nil {
		return false, workflow.Outcome{}, fmt.Errorf("read the operations of %s: %w", op.Target(), err)
	}
	for n := range all {
		o := &all[n]
		if o.Kind != trove.OpUpgradeConfirm || o.State == trove.OperationDone || o.Created.Before(since) {
			continue
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		begun, err := m.guests.Withdraw(call, op.Target(), o.ID+"/"+stepDrop)
		cancel()
		if err != nil {
			return guestSilent(ctx, err, "the state of the kept data")
		}
		if begun {
			return false, workflow.Outcome{}, trove.Permanent(trove.Errorf(trove.KindBadRequest,
				"A confirmation that was given up has begun to remove the kept data. The action upgrade_confirm removes the rest."))
		}
	}
	return true, workflow.Outcome{}, nil
}

// finishUpgrade lets the database be fitted to another image of its version. An agent that does not know the command is one whose drivers have nothing to
// do either.
func (m *Manager) finishUpgrade(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	done, out, err := m.follow(ctx, op, "", command{cmd: guestapi.CmdFinishUpgrade, doing: "fitting the data to the image"})
	if done || err != nil && trove.KindOf(err) == trove.KindNotImplemented {
		return workflow.Done(), nil
	}
	return out, err
}
