package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
)

// callTimeout bounds one call to a guest; the guest answers a long command at once.
const callTimeout = 5 * time.Second

// ackTimeout bounds the call that tells a guest that its end report arrived.
const ackTimeout = time.Second

// freshReport is how old a progress report may be before the guest is asked.
const freshReport = 4 * time.Second

// Guests calls guests; *guestapi.Client is one.
type Guests interface {
	// Start gives a long command under an operation id. It may be repeated.
	Start(ctx context.Context, instance, id string, cmd guestapi.Command, args any) (guestapi.OperationStatus, error)
	// Status asks after a long command, and tells the guest that its end is known.
	Status(ctx context.Context, instance, id string) (guestapi.OperationStatus, error)
	// Withdraw makes sure that a long command is not begun from now on, and reports whether the guest has it already.
	Withdraw(ctx context.Context, instance, id string) (begun bool, err error)
	// CheckUpgrade asks what a change to another version would meet.
	CheckUpgrade(ctx context.Context, instance, version string) (guestapi.UpgradeCheck, error)
	reconcilers.Guests
}

// command is a long command for a guest, as a step gives and follows it.
type command struct {
	cmd guestapi.Command
	// args makes the arguments; it is called only when the command is sent, so that secrets are opened only then. nil: none.
	args func(ctx context.Context) (any, error)
	// doing is the sentence while the guest works, such as "restarting the database".
	doing string
}

// failure makes the error of a step of what the guest said. It is permanent: the guest's journal gives the same answer again.
func failure(kind trove.Kind, message, doing string) error {
	return trove.Permanent(trove.Errorf(kind, "The guest failed at %s: %s", doing, message))
}

// follow gives the command to the guest under "<operation>/<step>" and follows it to its end. It returns true when the guest has done
// it; otherwise the outcome or the error is the step's.
func (m *Manager) follow(ctx context.Context, op *workflow.Op, suffix string, c command) (bool, workflow.Outcome, error) {
	id := op.ID() + "/" + op.Step() + suffix
	r, err := m.store.Report(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return false, workflow.Outcome{}, fmt.Errorf("read the report of %s: %w", id, err)
	}
	known := err == nil && r.InstanceID == op.Target()
	switch {
	case known && r.Done:
		m.acknowledge(ctx, op.Target(), id)
		if r.Error != "" {
			return false, workflow.Outcome{}, failure(r.ErrorKind, r.Error, c.doing)
		}
		return true, workflow.Outcome{}, nil
	case known && m.clock.Now().Sub(r.At) < freshReport:
		return false, m.progress(ctx, op, r, c.doing), nil
	}
	s, err := m.ask(ctx, op, id, c)
	if err != nil {
		return guestSilent(ctx, err, c.doing)
	}
	switch s.State {
	case guestapi.StateDone:
		return true, workflow.Outcome{}, nil
	case guestapi.StateFailed:
		f := guestapi.Failure{Message: "no reason was given"}
		if s.Error != nil {
			f = *s.Error
		}
		return false, workflow.Outcome{}, failure(f.Kind, f.Message, c.doing)
	}
	return false, m.progress(ctx, op, store.Report{Sentence: s.Sentence, Percent: s.Percent}, c.doing), nil
}

// ask starts the command on the first run of the step, and later asks after it; a guest that does not know it gets it again.
func (m *Manager) ask(ctx context.Context, op *workflow.Op, id string, c command) (guestapi.OperationStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if op.Attempt() > 0 {
		s, err := m.guests.Status(ctx, op.Target(), id)
		if err != nil || s.State != guestapi.StateUnknown {
			return s, err //nolint:wrapcheck // follow adds what was being done
		}
	}
	var args any
	if c.args != nil {
		var err error
		if args, err = c.args(ctx); err != nil {
			return guestapi.OperationStatus{}, err
		}
	}
	return m.guests.Start(ctx, op.Target(), id, c.cmd, args) //nolint:wrapcheck // follow adds what was being done
}

// guestSilent says what a step does when its call was not answered well: a guest that is not connected says hello when it is.
func guestSilent(ctx context.Context, err error, doing string) (bool, workflow.Outcome, error) {
	if errors.Is(err, bus.ErrNoResponder) {
		return false, workflow.WaitFor("waiting for the guest to connect, for %s", doing), nil
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, workflow.WaitFor("waiting for the guest to answer, for %s", doing), nil
	}
	return false, workflow.Outcome{}, fmt.Errorf("ask the guest for %s: %w", doing, err)
}

// progress shows what the guest said and waits for more.
func (m *Manager) progress(ctx context.Context, op *workflow.Op, r store.Report, doing string) workflow.Outcome {
	m.heard(op)
	sentence := r.Sentence
	if sentence == "" {
		sentence = doing
	}
	if r.Percent > 0 {
		op.Say(ctx, r.Percent, "%s", sentence)
	}
	return workflow.WaitFor("%s", sentence)
}

// acknowledge tells the guest that its end report arrived: it sends the report again until then. A lost acknowledgement costs a repetition
// of the report and nothing else, so an error is only logged.
func (m *Manager) acknowledge(ctx context.Context, instance, id string) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	if _, err := m.guests.Status(ctx, instance, id); err != nil {
		m.log.DebugContext(ctx, "end report was not acknowledged", "instance", instance, "op", id, "err", err)
	}
}

// guestStep makes a step of a command.
func (m *Manager) guestStep(make func(ctx context.Context, op *workflow.Op) (command, error)) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		c, err := make(ctx, op)
		if err != nil {
			return workflow.Outcome{}, err
		}
		done, out, err := m.follow(ctx, op, "", c)
		if done {
			return workflow.Done(), nil
		}
		return out, err
	}
}

// undoPatience is how long an undo waits for a guest. A machine that is gone is only brought back when the operation is closed.
const undoPatience = 10 * time.Minute

// restorePatience is how long an undo waits for data to be put back by a guest that says that it has the command: a copy that is being made comes before it. Both
// are as long as the guest gives them.
const restorePatience = 5*time.Hour + undoPatience

// heard notes that the guest has the command of the step.
func (m *Manager) heard(op *workflow.Op) {
	_ = op.SetNote(noteHeard+op.Step(), m.clock.Now()) // cannot fail
}

// impatient reports whether data that is being put back is not waited for any more: the guest has said nothing of it for long.
func (m *Manager) impatient(op *workflow.Op) (bool, error) {
	waited, err := m.waited(op)
	if err != nil {
		return false, err
	}
	now := m.clock.Now()
	last := now.Add(-waited)
	if err := note(op, noteHeard+op.Step(), &last); err != nil {
		return false, err
	}
	return waited > restorePatience || min(waited, now.Sub(last)) > undoPatience, nil
}

// withdraw makes sure that the command of the step, which may still be on its way, is not begun behind the back of its undo, and reports whether the guest has it
// already. The guest carries commands out one after another, so what it is given then comes after the command. It is asked until it has answered once.
func (m *Manager) withdraw(ctx context.Context, op *workflow.Op) (begun bool, err error) {
	key := noteBegun + op.Step()
	known, err := op.Note(key, &begun)
	if err != nil {
		return false, trove.Permanent(fmt.Errorf("read note %s: %w", key, err))
	}
	if known {
		return begun, nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if begun, err = m.guests.Withdraw(call, op.Target(), op.ID()+"/"+op.Step()); err != nil {
		return false, err //nolint:wrapcheck // guestSilent adds what was being done
	}
	if begun {
		m.acknowledge(ctx, op.Target(), op.ID()+"/"+op.Step())
	}
	return begun, op.SetNote(key, begun) //nolint:wrapcheck // says which note
}

// guestUndo makes an undo of a command. What the guest cannot do is logged and left: asking again under the same id gives the same answer,
// and an undo that never ends would keep the instance locked. The same holds for a guest that is away, and for an instance that is to be
// deleted anyway.
func (m *Manager) guestUndo(make func(ctx context.Context, op *workflow.Op) (command, error)) workflow.StepFunc {
	return m.undoAfter(make, func(bool) bool { return true })
}

// undoAfter is guestUndo; needed says whether there is something to undo when the command was begun, or was not.
func (m *Manager) undoAfter(make func(ctx context.Context, op *workflow.Op) (command, error), needed func(begun bool) bool) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		deleting, err := m.deleting(ctx, op)
		if err != nil || deleting {
			return workflow.Done(), err
		}
		c, err := make(ctx, op)
		if err != nil {
			return workflow.Outcome{}, err
		}
		waited, err := m.waited(op)
		if err != nil {
			return workflow.Outcome{}, err
		}
		done, out, err := m.afterCommand(ctx, op, c, needed)
		if done {
			return workflow.Done(), nil
		}
		if trove.IsPermanent(err) || waited > undoPatience {
			m.log.WarnContext(ctx, "guest could not undo", "instance", op.Target(), "op", op.ID(), "step", op.Step(), "err", err)
			return workflow.Done(), nil
		}
		return out, err
	}
}

// afterCommand gives the command of an undo when the guest has that of the step or will never begin it.
func (m *Manager) afterCommand(ctx context.Context, op *workflow.Op, c command, needed func(begun bool) bool) (bool, workflow.Outcome, error) {
	begun, err := m.withdraw(ctx, op)
	switch {
	case err != nil:
		return guestSilent(ctx, err, c.doing)
	case !needed(begun):
		return true, workflow.Outcome{}, nil
	}
	return m.follow(ctx, op, "-undo", c)
}

// waited returns how long the step has been waited for by the clock, across workers: its first run keeps the time in a note.
func (m *Manager) waited(op *workflow.Op) (time.Duration, error) {
	var since time.Time
	key := noteSince + op.Step()
	known, err := op.Note(key, &since)
	if err != nil {
		return 0, trove.Permanent(fmt.Errorf("read note %s: %w", key, err))
	}
	now := m.clock.Now()
	if !known {
		return 0, op.SetNote(key, now) //nolint:wrapcheck // says which note
	}
	return now.Sub(since), nil
}

// deleting reports whether the instance shall be deleted as soon as its operation is closed.
func (m *Manager) deleting(ctx context.Context, op *workflow.Op) (bool, error) {
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return false, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	return i.Task == trove.TaskDeleting, nil
}
