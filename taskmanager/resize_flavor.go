package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
)

// resizeFlavor gives the machine and the engine other resources. The engine's settings change while the machine has the larger of
// both flavors: before the machine shrinks, after it has grown. Undone in reverse, the same holds. The engine of a stopped instance gets its
// settings when it is started.
func (m *Manager) resizeFlavor() *workflow.Definition {
	shrink := m.onlyIf(func(in trove.ResizeFlavorInput) bool { return in.New.RAM < in.Old.RAM })
	grow := m.onlyIf(func(in trove.ResizeFlavorInput) bool { return in.New.RAM >= in.Old.RAM })
	return &workflow.Definition{
		Kind:     trove.OpResizeFlavor,
		Deadline: max(30*time.Minute, 20*time.Minute+m.patience.Resize),
		Steps: []workflow.Step{
			{
				Name: "shrink", Says: "fitting the database to less memory", Deadline: 10 * time.Minute, Weight: 4,
				Do:   shrink(m.ifRunning(m.guestStep(m.configure(newFlavor)))),
				Undo: blame(shrink(m.ifRunning(m.guestUndo(m.configure(oldFlavor))))),
			},
			{Name: "machine", Says: "resizing the machine", Do: m.resizeMachine, Undo: blame(m.resizeMachineBack), Deadline: max(15*time.Minute, m.patience.Resize), Weight: 2},
			{
				Name: "grow", Says: "fitting the database to more memory", Deadline: 10 * time.Minute, Weight: 4,
				Do:   grow(m.ifRunning(m.guestStep(m.configure(newFlavor)))),
				Undo: blame(grow(m.ifRunning(m.guestUndo(m.configure(oldFlavor))))),
			},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.closed(closing{what: "The resize failed", failed: trove.TaskNone, change: resized, restarts: true}),
	}
}

func newFlavor(in trove.ResizeFlavorInput) trove.Flavor { return in.New }
func oldFlavor(in trove.ResizeFlavorInput) trove.Flavor { return in.Old }

// onlyIf makes a step that is done at once unless the input asks for it.
func (m *Manager) onlyIf(asked func(trove.ResizeFlavorInput) bool) func(workflow.StepFunc) workflow.StepFunc {
	return func(do workflow.StepFunc) workflow.StepFunc {
		return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
			var in trove.ResizeFlavorInput
			if err := op.Input(&in); err != nil {
				return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
			}
			if !asked(in) {
				return workflow.Done(), nil
			}
			return do(ctx, op)
		}
	}
}

// configure derives the engine's settings from a flavor, and restarts the engine with them.
func (m *Manager) configure(which func(trove.ResizeFlavorInput) trove.Flavor) func(context.Context, *workflow.Op) (command, error) {
	return func(_ context.Context, op *workflow.Op) (command, error) {
		var in trove.ResizeFlavorInput
		if err := op.Input(&in); err != nil {
			return command{}, err //nolint:wrapcheck // says which operation
		}
		f := which(in)
		return command{
			cmd:   guestapi.CmdConfigure,
			doing: "restarting the database with its new settings",
			args: func(ctx context.Context) (any, error) {
				i, err := m.store.Instance(ctx, op.Target())
				if err != nil {
					return nil, fmt.Errorf("read instance %s: %w", op.Target(), err)
				}
				return m.configureArgs(ctx, &i, f)
			},
		}, nil
	}
}

// configureArgs are the settings of an engine that is started or restarted, with what its configuration group says.
func (m *Manager) configureArgs(ctx context.Context, i *trove.Instance, f trove.Flavor) (guestapi.ConfigureArgs, error) {
	overrides, err := reconcilers.Overrides(ctx, m.store, i)
	if err != nil {
		return guestapi.ConfigureArgs{}, err //nolint:wrapcheck // says which group
	}
	return guestapi.ConfigureArgs{ServerID: i.ServerID, RAM: f.RAM, VCPUs: f.VCPUs, Overrides: overrides, Restart: true}, nil
}

// resizeMachine gives the machine its new flavor.
func (m *Manager) resizeMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var in trove.ResizeFlavorInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	mc, err := m.changeMachine(ctx, op, in.New)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("resize the machine: %w", err)
	}
	if mc.State == cloud.MachineStopped {
		i, err := m.store.Instance(ctx, op.Target())
		if err != nil {
			return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
		}
		if i.Stopped() {
			return workflow.Done(), nil
		}
	}
	return m.machineRunning(op, mc)
}

// changeMachine gives the machine a flavor, and looks again at one that is pending: it may be starting for another reason.
func (m *Manager) changeMachine(ctx context.Context, op *workflow.Op, f trove.Flavor) (cloud.Machine, error) {
	mc, err := m.cloud.ResizeMachine(ctx, op.Target(), f)
	if err != nil || mc.State != cloud.MachinePending {
		return mc, err //nolint:wrapcheck // the caller says what for
	}
	mc, err = m.cloud.FindMachine(ctx, op.Target())
	if err == nil && mc.FlavorID != f.ID && mc.State != cloud.MachineFailed {
		mc.State = cloud.MachinePending // it runs as before: a resize that came to nothing at once is told by the next call
	}
	return mc, err //nolint:wrapcheck // the caller says what for
}

// resizeMachineBack gives the machine its old flavor, unless it is gone or shall go.
func (m *Manager) resizeMachineBack(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	var in trove.ResizeFlavorInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	mc, err := m.changeMachine(ctx, op, in.Old)
	switch {
	case trove.IsNotFound(err):
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("give the machine its old flavor: %w", err)
	case mc.State == cloud.MachinePending:
		return workflow.Again(m.pause(op), "waiting for the machine to have its old flavor"), nil
	}
	return workflow.Done(), nil // a machine that does not run is the reconciler's, once this operation is closed
}

// resized writes the flavor that the instance has, and keeps the quota of just that.
func resized(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
	var in trove.ResizeFlavorInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	f := in.Old
	if ok {
		f = in.New
	}
	i.FlavorID = f.ID
	return settle(ctx, tx, i, trove.QuotaRAM, f.RAM)
}
