package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// rollbackUpgrade gives the instance the version and the data back that it had before its last upgrade. What was written since is lost. Until the kept data
// is in its place a failure leads back to the new version; from then on the instance is one of the old.
func (m *Manager) rollbackUpgrade() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpUpgradeRollback,
		Deadline: 4 * time.Hour,
		Steps: []workflow.Step{
			{Name: "check", Says: "looking for the kept data and its image", Do: m.checkRollback, Undo: blame(nil), Deadline: outage},
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.startUnlessLost), Deadline: 12 * time.Minute, Weight: 2},
			{Name: "remove", Says: "removing the machine", Do: m.removeForRollback, Undo: blame(m.unlessRestored(m.machineBack)), Deadline: 5 * time.Minute},
			{Name: "machine", Says: "making the machine of the old version", Do: m.keptMachine, Undo: blame(m.unlessRestored(m.removeKeptMachine)), Deadline: max(10*time.Minute, m.patience.Boot), Weight: 2},
			{Name: "restore", Says: "putting the kept data back", Do: m.restoreForRollback, Undo: blame(m.lookWhetherRestored), Deadline: 2 * time.Hour, Weight: 4},
			{Name: "start", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 30 * time.Minute, Weight: 4},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.rollbackClosed,
	}
}

// noteKept is what the rollback is about, as the row said when it began.
const noteKept = "kept"

// checkRollback refuses before anything is taken away what could not be brought back.
func (m *Manager) checkRollback(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	k, err := m.store.KeptData(ctx, op.Target())
	if trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "No data of an earlier version is kept."))
	}
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says whose
	}
	if _, err := m.store.DatastoreVersion(ctx, k.DatastoreVersionID); trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(fmt.Errorf("read the version of before: %w", err))
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read the version of before: %w", err)
	}
	if err := m.cloud.ImageExists(ctx, k.ImageID); trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "Image %s cannot be found.", k.ImageID))
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the image: %w", err)
	}
	if there, out, err := m.stillKept(ctx, op, k.Since); !there {
		return out, err
	}
	if out, err := m.startNetwork(ctx, op); err != nil || !out.IsDone() { // the other machine needs all its ports
		return out, err
	}
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	if err != nil && !trove.IsNotFound(err) {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	return workflow.Done(), errors.Join(op.SetNote(noteKept, k), op.SetNote(noteImage, mc.ImageID))
}

// removeForRollback makes room for the machine that the kept data was used with.
func (m *Manager) removeForRollback(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var k trove.KeptData
	if err := note(op, noteKept, &k); err != nil {
		return workflow.Outcome{}, err
	}
	return m.makeRoom(ctx, op, k.ImageID)
}

// removeKeptMachine is its undo: it makes room for the machine of the new version.
func (m *Manager) removeKeptMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	image := ""
	if err := note(op, noteImage, &image); err != nil {
		return workflow.Outcome{}, err
	}
	return m.makeRoom(ctx, op, image)
}

// keptMachine makes the machine that the kept data was used with.
func (m *Manager) keptMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var k trove.KeptData
	if err := note(op, noteKept, &k); err != nil {
		return workflow.Outcome{}, err
	}
	v, err := m.store.DatastoreVersion(ctx, k.DatastoreVersionID)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read the version of before: %w", err)
	}
	return m.machineOf(ctx, op, &v, k.ImageID, false)
}

// machineBack makes the machine of the new version again, from the image that it had.
func (m *Manager) machineBack(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	v, err := m.store.DatastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read the datastore version: %w", err)
	}
	image := ""
	if err := note(op, noteImage, &image); err != nil {
		return workflow.Outcome{}, err
	}
	if image == "" {
		image = v.ImageID
	}
	out, err := m.machineOf(ctx, op, &v, image, false)
	if trove.IsPermanent(err) {
		m.log.WarnContext(ctx, "machine could not be brought back at once", "instance", op.Target(), "op", op.ID(), "err", err)
		return m.withoutMachine(ctx, op, image)
	}
	if err != nil || !out.IsDone() {
		return m.orWithoutMachine(ctx, op, image, out, err)
	}
	return out, nil
}

// restoreForRollback puts the kept data in its place, and notes it: from then on there is no way back.
func (m *Manager) restoreForRollback(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	done, out, err := m.follow(ctx, op, "", command{cmd: guestapi.CmdRestoreData, doing: "putting the kept data back"})
	if done {
		return workflow.Done(), op.SetNote(noteRestored, true)
	}
	return out, err
}

// lookWhetherRestored is the undo of restoreForRollback. The guest may have begun, or be done, without having been heard of: it goes on then, because half
// of the data is another version's already. A command that it does not have yet it is not to begin later.
func (m *Manager) lookWhetherRestored(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	var restored bool
	if err := note(op, noteRestored, &restored); err != nil || restored {
		return workflow.Done(), err
	}
	begun, err := m.withdraw(ctx, op)
	if err == nil && !begun {
		return workflow.Done(), nil
	}
	var s guestapi.OperationStatus
	if err == nil {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		s, err = m.guests.Status(call, op.Target(), op.ID()+"/"+op.Step())
	}
	if err == nil && s.State == guestapi.StateRunning {
		m.heard(op)
	}
	late, noted := m.impatient(op)
	if noted != nil {
		return workflow.Outcome{}, noted
	}
	switch {
	case err == nil && s.State == guestapi.StateUnknown:
		return workflow.Done(), nil
	case err == nil && s.State == guestapi.StateDone:
		return workflow.Done(), op.SetNote(noteRestored, true)
	case err == nil && s.State == guestapi.StateFailed, late:
		m.log.ErrorContext(ctx, "kept data was not put back", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), errors.Join(op.SetNote(noteRestored, true), op.SetNote(noteLost, true))
	}
	return workflow.WaitFor("waiting for the guest to put the kept data back"), nil
}

// stranded reports whether the database must not be started: the upgrade has failed and left the kept data aside, or an earlier way back has left the machine with
// the image of before on the data of the new version.
func stranded(ctx context.Context, r store.Reader, op *workflow.Op) (bool, error) {
	k, err := r.KeptData(ctx, op.Target())
	if trove.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err //nolint:wrapcheck // says whose
	}
	i, err := r.Instance(ctx, op.Target())
	if err != nil {
		return false, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	image := ""
	if err := note(op, noteImage, &image); err != nil || k.Only(&i) || image != k.ImageID {
		return k.Only(&i), err
	}
	v, err := r.DatastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return false, fmt.Errorf("read the datastore version: %w", err)
	}
	return v.ImageID != image, nil
}

// unlessRestored makes an undo that does nothing once the kept data is in its place.
func (m *Manager) unlessRestored(undo workflow.StepFunc) workflow.StepFunc {
	return func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		var restored bool
		if err := note(op, noteRestored, &restored); err != nil || restored {
			return workflow.Done(), err
		}
		return undo(ctx, op)
	}
}

// rollbackClosed writes the version whose data is in place.
func (m *Manager) rollbackClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	var k trove.KeptData
	var restored, lost bool
	for key, v := range map[string]any{noteKept: &k, noteRestored: &restored, noteLost: &lost} {
		if err := note(op, key, v); err != nil {
			return err
		}
	}
	aside, err := stranded(ctx, tx, op)
	if err != nil {
		return err
	}
	var in trove.RollbackInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	c := closing{what: "The way back failed", failed: trove.TaskNone, restarts: true}
	if lost || (aside || in.Failed) && !restored {
		c.what, c.failed = "The way back failed and the kept data is not in its place yet", trove.TaskUpgradingError
	}
	c.change = func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
		if ok {
			i.ServerStatus = trove.ServerActive
		}
		if restored {
			i.DatastoreVersionID = k.DatastoreVersionID
		}
		return rebuilt(ctx, tx, op, i)
	}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if restored {
		if err := tx.ForgetCertificate(ctx, op.Target()); err != nil {
			return err //nolint:wrapcheck // says whose; the one of before the upgrade came back with the data
		}
	}
	if restored && !lost {
		if err := tx.DeleteKeptData(ctx, op.Target()); err != nil {
			return err //nolint:wrapcheck // says whose
		}
	}
	if state == trove.OperationDone {
		return m.serving(ctx, tx, op)
	}
	return nil
}
