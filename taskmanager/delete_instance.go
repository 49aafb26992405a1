package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// stopPatience is how long a delete waits for the engine's clean stop. The data goes anyway; only clients see the difference.
const stopPatience = 5 * time.Second

// deleteInstance removes an instance, whatever there is of it. There is nothing to undo: what cannot be removed is tried again until the
// deadline, then the operation fails with a fault, and the reconciler begins a new one.
func (m *Manager) deleteInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpDelete,
		Deadline: 30 * time.Minute,
		Steps: []workflow.Step{
			{Name: "stop", Says: "stopping the database", Do: m.stopEngine},
			{Name: "machine", Says: "removing the machine", Do: m.undoMachine, Weight: 2},
			{Name: "names", Says: "removing the host name", Do: m.undoNames},
			{Name: "network", Says: "removing the network", Do: m.removeNetwork},
			{Name: "volume", Says: "removing the volume", Do: m.removeData},
			{Name: "row", Says: "finishing", Do: m.ready},
		},
		Closed: m.deleteClosed,
	}
}

// stopEngine asks the guest for a clean stop, and goes on without it when there is no guest or it takes too long.
func (m *Manager) stopEngine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	i, err := m.store.Instance(ctx, op.Target())
	if trove.IsNotFound(err) {
		return workflow.Done(), nil // another delete was first; what it may have left is looked for all the same
	}
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Stopped() || i.Guest.SeenAt.IsZero() || i.Silent(m.clock.Now()) {
		return workflow.Done(), nil
	}
	if _, err := m.cloud.FindMachine(ctx, op.Target()); trove.IsNotFound(err) {
		return workflow.Done(), nil // what an earlier operation removed has no guest, however lately it was heard of
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	waited, err := m.waited(op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	if waited >= stopPatience {
		m.log.InfoContext(ctx, "engine was not stopped in time", "instance", op.Target(), "op", op.ID())
		return workflow.Done(), nil
	}
	done, out, err := m.follow(ctx, op, "", command{cmd: guestapi.CmdStop, doing: "stopping the database"})
	if err != nil && ctx.Err() == nil {
		m.log.InfoContext(ctx, "engine was not stopped", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), nil
	}
	if done {
		return workflow.Done(), nil
	}
	return out, err
}

func (m *Manager) removeNetwork(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.RemoveNetwork(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the network: %w", err)
	}
	return workflow.Done(), nil
}

// removeData removes the volume, and what was published of the instance's logs: nobody could read it any more.
func (m *Manager) removeData(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if m.objects != nil {
		i, err := m.store.Instance(ctx, op.Target())
		if trove.IsNotFound(err) {
			return m.undoVolume(ctx, op)
		}
		if err != nil {
			return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
		}
		logs := backupstore.Container{Project: i.ProjectID, Name: trove.LogContainer}
		if _, err := m.objects.RemoveAll(ctx, logs, i.ID+"/"); err != nil {
			return workflow.Outcome{}, fmt.Errorf("remove the published logs: %w", err)
		}
	}
	return m.undoVolume(ctx, op)
}

// isGone reports whether the instance was deleted by another operation: no row is left that could say how this one ended.
func isGone(ctx context.Context, tx store.Tx, op *workflow.Op) (bool, error) {
	_, err := tx.Instance(ctx, op.Target())
	if trove.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	return false, nil
}

// deleteClosed removes the row and gives back what it still holds; a delete that failed leaves the wish to be deleted in place.
func (m *Manager) deleteClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	if gone, err := isGone(ctx, tx, op); err != nil || gone {
		return err
	}
	now := m.clock.Now()
	err := tx.UpdateInstance(ctx, op.Target(), now, func(i *trove.Instance) error {
		if state != trove.OperationDone {
			i.Fault = faultOf("The instance could not be deleted yet", op, cause, now)
			return nil
		}
		i.ServerStatus = trove.ServerDeleted
		return giveAll(ctx, tx, i)
	})
	if err != nil {
		return fmt.Errorf("write the end of operation %s: %w", op.ID(), err)
	}
	if state != trove.OperationDone {
		return nil
	}
	if err := tx.DeleteInstance(ctx, op.Target(), now); err != nil {
		return fmt.Errorf("delete the row: %w", err)
	}
	return nil
}
