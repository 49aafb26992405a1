package taskmanager

import (
	"context"
	"fmt"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// rebootInstance starts the machine afresh and the engine in it, whatever state both were in: it is what an administrator tries when the guest does not
// answer. The engine is stopped cleanly before, if it can be.
func (m *Manager) rebootInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpReboot,
		Deadline: 45 * time.Minute,
		Steps: []workflow.Step{
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "machine", Says: "restarting the machine", Do: m.rebootMachine, Undo: blame(m.bringBack), Deadline: max(5*time.Minute, m.patience.Boot), Weight: 2},
			{Name: "start", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 20 * time.Minute, Weight: 4},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.broughtUpAgain("The reboot failed", addressed),
	}
}

// rebootMachine restarts the machine. Which boot it was in is stored first, so that a run after a crash sees a restart that was done. A machine that is
// gone is made anew. Before that the ports are made be there: who owns a network may delete those in it, and the machine has them again from this boot on.
func (m *Manager) rebootMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	if trove.IsNotFound(err) {
		if out, err := m.startNetwork(ctx, op); err != nil || !out.IsDone() {
			return out, err
		}
		return m.startMachine(ctx, op)
	}
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	var before string
	known, err := op.Note(noteBoot, &before)
	if err != nil {
		return workflow.Outcome{}, trove.Permanent(fmt.Errorf("read note %s: %w", noteBoot, err))
	}
	if !known {
		if out, err := m.networkOrNot(ctx, op); err != nil || !out.IsDone() {
			return out, err
		}
		return workflow.Again(0, "restarting the machine"), op.SetNote(noteBoot, mc.BootID)
	}
	if mc.BootID != before {
		return m.machineRunning(op, mc)
	}
	if err := m.cloud.RebootMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("restart the machine: %w", err)
	}
	if mc, err = m.cloud.FindMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	return m.machineRunning(op, mc)
}

// networkPatience is how long a reboot waits for the network.
const networkPatience = time.Minute

// networkOrNot is startNetwork, but a network that has something wrong with it for good, or cannot be had now, does not keep the machine from its reboot.
func (m *Manager) networkOrNot(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	waited, err := m.waited(op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	out, err := m.startNetwork(ctx, op)
	if err == nil && out.IsDone() || ctx.Err() != nil {
		return out, err
	}
	if trove.IsPermanent(err) || waited >= networkPatience {
		m.log.WarnContext(ctx, "network was not looked after in a reboot", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), nil
	}
	return out, err
}

// addressed writes which addresses the instance has, if that was looked at. A port that was made again may have others, and the certificate names them.
func addressed(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance) error {
	now := []trove.Address(nil) // what is decoded into addresses that are there keeps of them what the new ones do not say
	known, err := op.Note(noteAddresses, &now)
	if err != nil {
		return trove.Permanent(fmt.Errorf("read note %s: %w", noteAddresses, err))
	}
	if !known || slices.Equal(now, i.Addresses) {
		return nil
	}
	i.Addresses = now
	return tx.ForgetCertificate(ctx, i.ID) //nolint:wrapcheck // says whose
}

// broughtUpAgain ends an operation that has taken the machine down and brought it up. A service status that nobody has overwritten since is settled.
func (m *Manager) broughtUpAgain(failed string, change func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance) error,
) func(context.Context, store.Tx, *workflow.Op, trove.OperationState, string) error {
	c := closing{what: failed, failed: trove.TaskNone, restarts: true, change: func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
		if ok {
			i.ServerStatus = trove.ServerActive
		}
		if change == nil {
			return nil
		}
		return change(ctx, tx, op, i)
	}}
	return func(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
		if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
			return err
		}
		if state == trove.OperationDone {
			return m.serving(ctx, tx, op)
		}
		return m.unsettled(ctx, tx, op)
	}
}

// unsettled takes back RESTARTING, which is a promise, if the guest has said nothing since.
func (m *Manager) unsettled(ctx context.Context, tx store.Tx, op *workflow.Op) error {
	i, err := tx.Instance(ctx, op.Target())
	if err != nil {
		return fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Guest.Service != trove.ServiceRestarting {
		return nil
	}
	if err := tx.SetServiceStatus(ctx, op.Target(), trove.ServiceUnknown, m.clock.Now()); err != nil {
		return fmt.Errorf("write the service status: %w", err)
	}
	return nil
}
