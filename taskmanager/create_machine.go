package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// createMachine starts the machine.
func (m *Manager) createMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	var in trove.CreateInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	boot, err := m.bootData(ctx, op, w)
	if err != nil {
		return workflow.Outcome{}, err
	}
	mc, err := m.cloud.EnsureMachine(ctx, w.Machine(in.Flavor, boot))
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("start the machine: %w", err)
	}
	if out, anew, err := m.madeAnew(ctx, op, mc); anew || err != nil {
		return out, err
	}
	out, err := m.machineRunning(op, mc)
	if err != nil || mc.State != cloud.MachineRunning {
		return out, err
	}
	return workflow.Done(), op.SetNote(noteMachine, mc.ID)
}

// A new machine that failed of what may pass is made anew after looksAnew first looks: 20 s on OpenStack. Nothing was in it yet.
const (
	looksAnew = 40
	bootAnew  = time.Minute // with less there is no time for another
)

// madeAnew removes a machine that failed of what may pass, so that the next run of the step makes another. It stops long before the step's deadline, so that the fault says
// of what the machine failed.
func (m *Manager) madeAnew(ctx context.Context, op *workflow.Op, mc cloud.Machine) (workflow.Outcome, bool, error) {
	if mc.State != cloud.MachineFailed || mc.Anew == 0 || m.patience.Boot < bootAnew {
		return workflow.Outcome{}, false, nil
	}
	tried := 0
	waited, err := m.waited(op)
	if err = errors.Join(err, note(op, noteAnew, &tried)); err != nil || tried >= mc.Anew || waited > m.patience.Boot/4 {
		return workflow.Outcome{}, false, err
	}
	if err := m.cloud.RemoveMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, false, fmt.Errorf("remove the machine that failed: %w", err)
	}
	m.log.WarnContext(ctx, "machine failed and is made anew", "instance", op.Target(), "op", op.ID(), "reason", mc.Reason)
	out := workflow.Again(looksAnew*m.patience.Look, "waiting to make another machine: %s", strings.TrimSuffix(mc.Reason, "."))
	return out, true, op.SetNote(noteAnew, tried+1)
}

// bootData opens the token and puts it where the machine reads it.
func (m *Manager) bootData(ctx context.Context, op *workflow.Op, w specs.Wish) ([]byte, error) {
	var sealed string
	if err := note(op, noteToken, &sealed); err != nil {
		return nil, err
	}
	token, err := m.sealer.Open(ctx, tokenPurpose(op), sealed)
	if err != nil {
		return nil, fmt.Errorf("open the enrolment token: %w", err)
	}
	return w.BootData(m.enrolment, token) //nolint:wrapcheck // says what
}

// machineRunning says what a step does while a machine is not running.
func (m *Manager) machineRunning(op *workflow.Op, mc cloud.Machine) (workflow.Outcome, error) {
	switch mc.State {
	case cloud.MachineRunning:
		return workflow.Done(), nil
	case cloud.MachineFailed:
		e := trove.Errorf(trove.KindInternal, "The machine failed: %s", mc.Reason)
		return workflow.Outcome{}, trove.Permanent(e)
	case cloud.MachineStopped:
		return workflow.Outcome{}, fmt.Errorf("the machine stopped: %s", mc.Reason)
	}
	return workflow.Again(m.pause(op), "waiting for the machine to start"), nil
}

// pause is how long a step lets pass before it looks at the cloud again: short at first, because the local cloud is quick.
func (m *Manager) pause(op *workflow.Op) time.Duration {
	n := looked(op)
	if m.patience.Look > 0 {
		return patientPause(m.patience.Look, n)
	}
	const first, most = 5 * time.Millisecond, 2 * time.Second
	if n < 10 {
		return min(first<<n, most)
	}
	return most
}

// looks is how often a step has looked at something pending, one time after the other.
type looks struct {
	Step    string `json:"step"`
	Attempt int    `json:"attempt"` // of the last look
	Before  int    `json:"before"`  // looks before that
}

// looked counts the looks of a step since it began to wait or last met an error, without the present one: when a service was away for long, what is asked of it then is
// as new as at the beginning, and is not looked at as seldom as something that has taken so long already.
func looked(op *workflow.Op) int {
	var l looks
	_, _ = op.Note(noteLooks, &l) // an unreadable note is none
	if l.Step == op.Step() && l.Attempt+1 == op.Attempt() {
		l.Before++
	} else {
		l = looks{Step: op.Step()}
	}
	l.Attempt = op.Attempt()
	_ = op.SetNote(noteLooks, l) // cannot fail
	return l.Before
}

// patientPause grows by a quarter each time: what takes long is looked at seldom, and noticed late by a fifth of the time that it took. A hundred servers that are made at
// once take minutes, and looks at each of them every other second would take longer to answer than the servers to make.
func patientPause(first time.Duration, attempt int) time.Duration {
	const growth, most = 1.25, 15 * time.Second
	pause := float64(first)
	for range attempt {
		if pause *= growth; pause > float64(most) {
			return most
		}
	}
	return time.Duration(pause)
}

func (m *Manager) undoMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.RemoveMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the machine: %w", err)
	}
	return workflow.Done(), m.dropGroup(ctx, op.Target())
}

// dropGroup removes the group that the machine would have been the first of. One that had a machine is gone with the last.
func (m *Manager) dropGroup(ctx context.Context, instance string) error {
	g, ok := m.cloud.(cloud.Grouper)
	if !ok {
		return nil
	}
	i, err := m.store.Instance(ctx, instance)
	if trove.IsNotFound(err) {
		return nil // another delete was first
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", instance, err)
	}
	group, err := specs.GroupOf(ctx, m.store, &i)
	if err != nil || group.Policy == "" {
		return err //nolint:wrapcheck // the store says of what
	}
	if err := g.RemoveGroup(ctx, group.ID); err != nil {
		return fmt.Errorf("remove the group of the machine: %w", err)
	}
	return nil
}
