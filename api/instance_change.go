package api

import (
	"context"
	"errors"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// begin changes an instance and enqueues an operation on it in one transaction. change sees the instance as it is in the transaction and says no
// by an error; it may take quota. An instance that has an open operation is Unprocessable.
func (s *server) begin(ctx context.Context, c *call, kind string, input any,
	change func(ctx context.Context, tx store.Tx, i *trove.Instance) error,
) error {
	var op string
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := s.cfg.Clock.Now()
		err := tx.UpdateInstance(ctx, c.instance.ID, now, func(i *trove.Instance) error {
			c.instance = *i
			if err := change(ctx, tx, i); err != nil || kind == trove.OpUpgradeRollback {
				return err
			}
			return notLost(ctx, tx, i)
		})
		if err != nil {
			return err
		}
		op, err = workflow.Enqueue(ctx, tx, now, workflow.Request{
			Kind: kind, Target: c.instance.ID, ProjectID: c.instance.ProjectID, RequestID: telemetry.RequestID(ctx), Input: input,
		})
		return err
	})
	if errors.Is(err, store.ErrBusy) {
		return trove.Wrap(trove.KindUnprocessable, err, "Instance %s has an operation that has not ended: wait for it or cancel it.", c.instance.ID)
	}
	if err != nil {
		return fmt.Errorf("begin %s: %w", kind, err)
	}
	s.began(ctx, c, op)
	return nil
}

// notLost is Unprocessable while the data of before a failed upgrade is all that an instance has, whatever its task says: a database that is started on
// what lies in its place would be one of half an upgrade.
func notLost(ctx context.Context, r store.Reader, i *trove.Instance) error {
	k, err := r.KeptData(ctx, i.ID)
	switch {
	case trove.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case k.Only(i):
		return trove.Errorf(trove.KindUnprocessable, "The upgrade of instance %s failed and its data of before is not in its place yet. The action upgrade_rollback puts it there.", i.ID)
	}
	return nil
}

// actionable is the check before a mutating action, and sets the task.
func actionable(i *trove.Instance, task trove.Task) error {
	if err := i.CheckActionable(i.BackingUp); err != nil {
		return err
	}
	i.Task = task
	return nil
}

// changeable is actionable for what can also be done to an instance that is stopped.
func changeable(i *trove.Instance, task trove.Task) error {
	if err := i.CheckChangeable(i.BackingUp); err != nil {
		return err
	}
	i.Task = task
	return nil
}

// deleteInstance marks the instance and enqueues its removal. If another operation is open that one is cancelled, and the taskmanager begins the
// removal when it has ended. Asking again is fine.
func (s *server) deleteInstance(ctx context.Context, c *call) (any, error) {
	replicas, err := s.replicasOf(ctx, []trove.Instance{c.instance})
	if err != nil {
		return nil, err
	}
	if len(replicas[c.instance.ID]) > 0 {
		return nil, trove.Errorf(trove.KindForbidden, "Detach replicas before deleting replica source.")
	}
	var op string
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		op = ""
		now := s.cfg.Clock.Now()
		again := false
		err := tx.UpdateInstance(ctx, c.instance.ID, now, func(i *trove.Instance) error {
			if status := i.Status(i.BackingUp); status == "BUILD" {
				return trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready. (Status is %s).", i.ID, status)
			}
			if i.ClusterID != "" {
				return inCluster()
			}
			again = i.Task == trove.TaskDeleting
			i.Task = trove.TaskDeleting
			i.ConfigurationID = "" // so that the group may be deleted at once
			return nil
		})
		if err != nil || again {
			return err
		}
		open, err := tx.OpenOperation(ctx, c.instance.ID)
		if err == nil {
			err = tx.CancelOperation(ctx, open.ID, now)
		}
		if !trove.IsNotFound(err) { // there was none, or it ended between the two statements
			return err
		}
		op, err = workflow.Enqueue(ctx, tx, now, workflow.Request{
			Kind: trove.OpDelete, Target: c.instance.ID, ProjectID: c.instance.ProjectID, RequestID: telemetry.RequestID(ctx),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delete instance: %w", err)
	}
	if op != "" {
		s.began(ctx, c, op)
	} else if s.cfg.Wake != nil {
		s.cfg.Wake(ctx)
	}
	return nil, nil
}
