package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// startInstance starts an instance that was stopped, moments or months ago: host, certificates and flavor may have changed meanwhile. A start that fails
// or is cancelled leaves the instance stopped.
func (m *Manager) startInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpStart,
		Deadline: 45 * time.Minute,
		Steps: []workflow.Step{
			{Name: "network", Says: "attaching the network", Do: m.startNetwork, Undo: blame(nil), Deadline: max(2*time.Minute, m.patience.Network)},
			{Name: "volume", Says: "attaching the volume", Do: m.startVolume, Undo: blame(nil), Deadline: max(5*time.Minute, m.patience.Volume)},
			{Name: "machine", Says: "starting the machine", Do: m.startMachine, Undo: blame(m.stopMachine), Deadline: max(5*time.Minute, m.patience.Boot), Weight: 2},
			{Name: "engine", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 30 * time.Minute, Weight: 6},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.startClosed,
	}
}

// startNetwork makes the ports be there, which a restart of the host has taken.
func (m *Manager) startNetwork(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	n, err := m.cloud.EnsureNetwork(ctx, w.Network(w.Instance.Access))
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("attach the network: %w", err)
	}
	return m.networkReady(op, n)
}

// startVolume makes the volume be attached. One that is gone is never made anew: an empty database would look like a healthy one.
func (m *Manager) startVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	if !w.HasVolume() {
		return workflow.Done(), nil
	}
	if _, err := m.cloud.FindVolume(ctx, op.Target()); trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindInternal, err, "The data volume of the instance is gone."))
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the volume: %w", err)
	}
	v, out, err := m.volumeReady(ctx, op, w, w.Instance.VolumeSize)
	if err != nil || v.ID == "" {
		return out, err
	}
	return workflow.Done(), nil
}

// startMachine starts the machine, or makes one that is gone anew.
func (m *Manager) startMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	f, err := m.flavorOf(ctx, &w.Instance)
	if err != nil {
		return workflow.Outcome{}, err
	}
	boot, err := m.bootAgain(ctx, w)
	if err != nil {
		return workflow.Outcome{}, err
	}
	mc, err := m.cloud.EnsureMachine(ctx, w.Machine(f, boot))
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("start the machine: %w", err)
	}
	return m.machineRunning(op, mc)
}

// bootAgain makes the boot data. A machine that is there has read its own; one that is made anew gets a token, with which its guest enrols if
// the volume has lost its identity.
func (m *Manager) bootAgain(ctx context.Context, w specs.Wish) ([]byte, error) {
	_, err := m.cloud.FindMachine(ctx, w.Instance.ID)
	if err == nil {
		return w.BootData(m.enrolment, "") //nolint:wrapcheck // says what
	}
	if !trove.IsNotFound(err) {
		return nil, fmt.Errorf("find the machine: %w", err)
	}
	token, err := m.newToken(ctx, w.Instance.ID)
	if err != nil {
		return nil, err
	}
	return w.BootData(m.enrolment, token) //nolint:wrapcheck // says what
}

// newToken makes an enrolment token for a machine that is made anew, or from another image.
func (m *Manager) newToken(ctx context.Context, instance string) (trove.Secret, error) {
	token := specs.NewToken()
	err := m.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.PutEnrolmentToken(ctx, instance, bus.HashToken(token), m.clock.Now().Add(m.usageTimeout))
	})
	if err != nil {
		return "", fmt.Errorf("store an enrolment token for %s: %w", instance, err)
	}
	return token, nil
}

// flavorOf returns the instance's flavor.
func (m *Manager) flavorOf(ctx context.Context, i *trove.Instance) (trove.Flavor, error) {
	return specs.FlavorOf(ctx, m.cloud, i) //nolint:wrapcheck // says which flavor
}

// startEngine brings up an engine that a stop has ended, with the settings of the flavor: that may have been changed meanwhile.
func (m *Manager) startEngine(_ context.Context, op *workflow.Op) (command, error) {
	return command{
		cmd:   guestapi.CmdConfigure,
		doing: "starting the database",
		args: func(ctx context.Context) (any, error) {
			i, err := m.store.Instance(ctx, op.Target())
			if err != nil {
				return nil, fmt.Errorf("read instance %s: %w", op.Target(), err)
			}
			f, err := m.flavorOf(ctx, &i)
			if err != nil {
				return nil, err
			}
			return m.configureArgs(ctx, &i, f)
		},
	}, nil
}

// startClosed writes that the instance runs, or leaves it stopped.
func (m *Manager) startClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	c := closing{what: "The start failed", failed: trove.TaskNone, restarts: true, change: func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
		if !ok {
			return nil
		}
		i.ServerStatus = trove.ServerActive
		return addressed(ctx, tx, op, i)
	}}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if state == trove.OperationDone {
		return m.serving(ctx, tx, op)
	}
	return m.notServing(ctx, tx, op)
}
