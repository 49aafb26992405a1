package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// updateAccess changes who may reach the database. When it fails, the old rules are put back.
func (m *Manager) updateAccess() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpUpdateAccess,
		Deadline: 10 * time.Minute,
		Steps: []workflow.Step{
			{Name: "network", Says: "changing the access rules", Do: m.setAccess(newAccess), Undo: blame(m.setAccessBack), Deadline: max(5*time.Minute, m.patience.Network), Weight: 2},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.closed(closing{what: "The access rules could not be changed", failed: trove.TaskNone, change: accessUpdated}),
	}
}

func newAccess(in trove.UpdateAccessInput) trove.Access { return in.New }
func oldAccess(in trove.UpdateAccessInput) trove.Access { return in.Old }

func (m *Manager) setAccess(which func(trove.UpdateAccessInput) trove.Access) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		var in trove.UpdateAccessInput
		if err := op.Input(&in); err != nil {
			return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
		}
		w, err := specs.Load(ctx, m.store, op.Target())
		if err != nil {
			return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
		}
		n, err := m.cloud.EnsureNetwork(ctx, w.Network(which(in)))
		if err != nil {
			return workflow.Outcome{}, fmt.Errorf("change the access rules: %w", err)
		}
		return m.networkReady(op, n)
	}
}

func (m *Manager) setAccessBack(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	return m.setAccess(oldAccess)(ctx, op)
}

// accessUpdated writes the rules that are in force, and the addresses, which may change with them.
func accessUpdated(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
	var in trove.UpdateAccessInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	i.Access = in.Old
	if ok {
		i.Access = in.New
	}
	if err := addressed(ctx, tx, op, i); err != nil {
		return err
	}
	return tx.ForgetCertificate(ctx, i.ID) //nolint:wrapcheck // says whose; the certificate names the addresses
}
