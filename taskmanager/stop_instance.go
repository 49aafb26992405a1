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
)

// stopInstance ends the engine and the machine; volume, network, addresses and quota stay. A stop that fails or is cancelled starts again what it has
// stopped.
func (m *Manager) stopInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpStop,
		Deadline: 30 * time.Minute,
		Steps: []workflow.Step{
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "machine", Says: "stopping the machine", Do: m.stopMachine, Undo: blame(m.bringBack), Deadline: 5 * time.Minute, Weight: 2},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.stopClosed,
	}
}

// silentPatience is how long a stop waits for a guest that is not heard of.
const silentPatience = time.Minute

// stopForRest asks the guest for a clean stop, which lasts until the next start. What the guest cannot do, or one that is away does not do, the end of
// the machine does: its first process ends the engine too, only with less patience.
func (m *Manager) stopForRest(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	switch {
	case trove.IsNotFound(err), err == nil && mc.State == cloud.MachineStopped:
		return workflow.Done(), nil // it crashed, or the host was restarted meanwhile
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	waited, err := m.waited(op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	if waited >= silentPatience && i.Silent(m.clock.Now()) {
		m.log.WarnContext(ctx, "guest was away, so its machine is stopped without it", "instance", op.Target(), "op", op.ID())
		return workflow.Done(), nil
	}
	done, out, err := m.follow(ctx, op, "", command{cmd: guestapi.CmdStop, doing: "stopping the database"})
	if err != nil && trove.IsPermanent(err) && ctx.Err() == nil {
		m.log.WarnContext(ctx, "engine was not stopped by the guest", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), nil
	}
	if done {
		return workflow.Done(), nil
	}
	return out, err
}

func (m *Manager) stopMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.StopMachine(ctx, op.Target()); err != nil && !trove.IsNotFound(err) {
		return workflow.Outcome{}, fmt.Errorf("stop the machine: %w", err)
	}
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	switch {
	case trove.IsNotFound(err):
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	case mc.State == cloud.MachineRunning || mc.State == cloud.MachinePending:
		return workflow.Again(m.pause(op), "waiting for the machine to stop"), nil
	}
	return workflow.Done(), nil
}

// bringBack is the undo of stopMachine. What it cannot do is the reconciler's when the operation is closed.
func (m *Manager) bringBack(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	for _, step := range []workflow.StepFunc{m.startNetwork, m.startVolume, m.startMachine} {
		out, err := step(ctx, op)
		if trove.IsPermanent(err) {
			m.log.WarnContext(ctx, "machine could not be brought back at once", "instance", op.Target(), "op", op.ID(), "err", err)
			return workflow.Done(), nil
		}
		if err != nil || !out.IsDone() {
			return m.unlessTooLong(ctx, op, out, err)
		}
	}
	return workflow.Done(), nil
}

// pending is since when a step that brings a machine back has found something pending.
type pending struct {
	Step    string    `json:"step"`
	Attempt int       `json:"attempt"` // of the last look
	Since   time.Time `json:"since"`
}

// unlessTooLong is what an undo says while something of the cloud is pending. That may be for good, as a machine on a host that is down is, and must not keep the
// instance locked: after a while the undo is done without it, and the reconciler goes on. A cloud that is away is waited for, and the time begins anew after that.
func (m *Manager) unlessTooLong(ctx context.Context, op *workflow.Op, out workflow.Outcome, err error) (workflow.Outcome, error) {
	if err != nil {
		return out, err
	}
	var p pending
	if err := note(op, notePending, &p); err != nil {
		return workflow.Outcome{}, err
	}
	now := m.clock.Now()
	if p.Step != op.Step() || p.Attempt != op.Attempt() && p.Attempt+1 != op.Attempt() {
		p = pending{Step: op.Step(), Since: now}
	}
	p.Attempt = op.Attempt()
	if waited := now.Sub(p.Since); waited > max(undoPatience, m.patience.Boot) {
		m.log.WarnContext(ctx, "machine was not back in time and is not waited for", "instance", op.Target(), "op", op.ID(), "took", waited)
		return workflow.Done(), nil
	}
	return out, op.SetNote(notePending, p)
}

// engineBack is the undo of stopForRest. An engine that was not told to stop, and will not be, is left alone.
func (m *Manager) engineBack(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	switch {
	case trove.IsNotFound(err), err == nil && mc.State != cloud.MachineRunning:
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	return m.undoAfter(m.startEngine, func(begun bool) bool { return begun })(ctx, op)
}

// ifRunning makes a step that is done at once on an instance that is stopped.
func (m *Manager) ifRunning(do workflow.StepFunc) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		i, err := m.store.Instance(ctx, op.Target())
		if err != nil {
			return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
		}
		if i.Stopped() {
			return workflow.Done(), nil
		}
		return do(ctx, op)
	}
}

// stopClosed writes that the instance is stopped, from which moment nothing is expected of its guest; or leaves it as one that runs.
func (m *Manager) stopClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	c := closing{what: "The stop failed", failed: trove.TaskNone, restarts: true, change: func(_ context.Context, _ store.Tx, _ *workflow.Op, i *trove.Instance, ok bool) error {
		if ok {
			i.ServerStatus = trove.ServerShutdown
		}
		return nil
	}}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil || state != trove.OperationDone {
		return err
	}
	return m.notServing(ctx, tx, op)
}

// notServing notes that the database is down: the machine ended, whatever its guest said last.
func (m *Manager) notServing(ctx context.Context, tx store.Tx, op *workflow.Op) error {
	if err := tx.SetServiceStatus(ctx, op.Target(), trove.ServiceShutdown, m.clock.Now()); err != nil {
		return fmt.Errorf("write the service status: %w", err)
	}
	return nil
}
