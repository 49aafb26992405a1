package taskmanager

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// The keys of notes of an upgrade and of its way back.
const (
	noteImage    = "image"    // of the machine before
	noteBytes    = "bytes"    // of the data that is kept
	noteRestored = "restored" // the kept data is in use again
	noteLost     = "lost"     // the kept data could not be put back
)

// upgradeInstance gives the instance another datastore version. The data is copied beside itself before anything touches it, so everything after that can be
// taken back: the kept data comes into its place again, under the image of before. The row has the new version when all is done, and not before.
func (m *Manager) upgradeInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpUpgrade,
		Deadline: 24 * time.Hour,
		Steps: []workflow.Step{
			{Name: "check", Says: "asking the database what would fail", Do: m.checkUpgrade, Undo: blame(nil), Deadline: 5 * time.Minute},
			{Name: "engine", Says: "stopping the database", Do: m.guestStep(stopOnly), Undo: blame(m.startUnlessLost), Deadline: 12 * time.Minute, Weight: 2},
			{Name: "keep", Says: "keeping the data aside", Do: m.guestStep(plain(guestapi.CmdKeepData, "keeping the data aside")), Undo: blame(m.restoreKept), Deadline: 4 * time.Hour, Weight: 4},
			{Name: "remove", Says: "removing the machine", Do: m.removeForUpgrade, Undo: blame(m.oldMachine), Deadline: 5 * time.Minute},
			{Name: "machine", Says: "making the machine of the new version", Do: m.newMachine, Undo: blame(m.removeNewMachine), Deadline: max(10*time.Minute, m.patience.Volume+m.patience.Boot), Weight: 2},
			{Name: "upgrade", Says: "upgrading the data", Do: m.guestStep(m.giveUpgrade), Undo: blame(nil), Deadline: 12 * time.Hour, Weight: 12},
			{Name: "ready", Says: "finishing", Do: m.dropPrevious, Undo: blame(nil)},
		},
		Closed: m.upgradeClosed,
	}
}

// plain makes a command without arguments.
func plain(cmd guestapi.Command, doing string) func(context.Context, *workflow.Op) (command, error) {
	return func(context.Context, *workflow.Op) (command, error) { return command{cmd: cmd, doing: doing}, nil }
}

// versions reads the versions of an upgrade.
func (m *Manager) versions(ctx context.Context, op *workflow.Op) (before, after trove.DatastoreVersion, err error) {
	var in trove.UpgradeInput
	if err = op.Input(&in); err != nil {
		return before, after, err //nolint:wrapcheck // says which operation
	}
	if before, err = m.store.DatastoreVersion(ctx, in.Old); err == nil {
		after, err = m.store.DatastoreVersion(ctx, in.New)
	}
	if trove.IsNotFound(err) {
		err = trove.Permanent(err)
	}
	if err != nil {
		return before, after, fmt.Errorf("read the datastore versions: %w", err)
	}
	return before, after, nil
}

// checkUpgrade refuses what would fail while everything still is as it was. It notes the machine's image: that of the version may have been replaced since
// the machine was made.
func (m *Manager) checkUpgrade(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	before, after, err := m.versions(ctx, op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	image := cmp.Or(mc.ImageID, before.ImageID)
	for _, id := range []string{after.ImageID, image} {
		if err := m.cloud.ImageExists(ctx, id); trove.IsNotFound(err) {
			return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "Image %s cannot be found.", id))
		} else if err != nil {
			return workflow.Outcome{}, fmt.Errorf("find the image: %w", err)
		}
	}
	if err := m.checkOverrides(ctx, op.Target(), &after); err != nil {
		return workflow.Outcome{}, err
	}
	if out, err := m.startNetwork(ctx, op); err != nil || !out.IsDone() { // the new machine needs all its ports
		return out, err
	}
	call, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found, err := m.guests.CheckUpgrade(call, op.Target(), after.Version)
	if err != nil {
		return checkFailed(ctx, err)
	}
	var blocking []string
	for _, f := range found.Findings {
		if f.Blocks {
			blocking = append(blocking, f.Sentence)
		}
	}
	if len(blocking) > 0 {
		return workflow.Outcome{}, trove.Permanent(trove.Errorf(trove.KindBadRequest, "The change to %s is refused: %s", after.Name, strings.Join(blocking, " ")))
	}
	if err := op.SetNote(noteBytes, found.Bytes); err != nil {
		return workflow.Outcome{}, fmt.Errorf("note the size of the data: %w", err)
	}
	return workflow.Done(), op.SetNote(noteImage, image)
}

// checkTimeout is longer than the guest takes to look at many tables.
const checkTimeout = 25 * time.Second

// checkFailed says what a check that came to no answer means: a guest that is away may come back, all else is its answer.
func checkFailed(ctx context.Context, err error) (workflow.Outcome, error) {
	if trove.KindOf(err) == trove.KindUnavailable || trove.KindOf(err) == trove.KindInternal || ctx.Err() != nil {
		_, out, err := guestSilent(ctx, err, "the check before the upgrade")
		return out, err
	}
	return workflow.Outcome{}, trove.Permanent(fmt.Errorf("check the upgrade: %w", err))
}

// checkOverrides refuses values of the configuration group that the new version has no rule for. A version without rules is not asked.
func (m *Manager) checkOverrides(ctx context.Context, instance string, v *trove.DatastoreVersion) error {
	i, err := m.store.Instance(ctx, instance)
	if err != nil {
		return fmt.Errorf("read instance %s: %w", instance, err)
	}
	overrides, err := reconcilers.Overrides(ctx, m.store, &i)
	if err != nil || len(overrides) == 0 {
		return err //nolint:wrapcheck // says which group
	}
	rules, err := m.store.Parameters(ctx, v.ID, false)
	if err != nil {
		return fmt.Errorf("read the parameters of version %s: %w", v.Name, err)
	}
	if problem := trove.UnfitOverride(rules, overrides); problem != nil && len(rules) > 0 {
		return trove.Permanent(trove.Wrap(trove.KindBadRequest, problem, "The configuration group does not fit version %s: %s", v.Name, trove.MessageOf(problem)))
	}
	return nil
}

// newMachine makes the machine of the new version, which sees the root of the old one.
func (m *Manager) newMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	_, after, err := m.versions(ctx, op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	return m.machineOf(ctx, op, &after, after.ImageID, true)
}

// oldMachine makes the machine of the version and the image of before, unless the instance is to be deleted.
func (m *Manager) oldMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	before, _, err := m.versions(ctx, op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	image := before.ImageID
	if err := note(op, noteImage, &image); err != nil {
		return workflow.Outcome{}, err
	}
	for _, step := range []workflow.StepFunc{m.startNetwork, m.startVolume, func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		return m.machineOf(ctx, op, &before, image, false)
	}} {
		out, err := step(ctx, op)
		if trove.IsPermanent(err) {
			m.log.ErrorContext(ctx, "machine of the old version could not be made", "instance", op.Target(), "op", op.ID(), "err", err)
			return m.withoutMachine(ctx, op, image)
		}
		if err != nil || !out.IsDone() {
			return m.orWithoutMachine(ctx, op, image, out, err)
		}
	}
	return workflow.Done(), nil
}

// orWithoutMachine goes on waiting for a machine of the image, unless that takes too long.
func (m *Manager) orWithoutMachine(ctx context.Context, op *workflow.Op, image string, out workflow.Outcome, err error) (workflow.Outcome, error) {
	if out, err = m.unlessTooLong(ctx, op, out, err); err != nil || !out.IsDone() {
		return out, err
	}
	return m.withoutMachine(ctx, op, image)
}

// withoutMachine ends an undo that could not make the machine of the image. One that has another image all the same would start another version than the data is
// of: then it is noted that the data must be left as it is.
func (m *Manager) withoutMachine(ctx context.Context, op *workflow.Op, image string) (workflow.Outcome, error) {
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	switch {
	case trove.IsNotFound(err), err == nil && (mc.ImageID == "" || mc.ImageID == image):
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	return workflow.Done(), op.SetNote(noteLost, true)
}

// machineOf makes the machine run from an image of a version; with previous it sees the image that the operation has noted.
func (m *Manager) machineOf(ctx context.Context, op *workflow.Op, v *trove.DatastoreVersion, image string, previous bool) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	w.Version = *v
	w.Version.ImageID = image
	f, err := m.flavorOf(ctx, &w.Instance)
	if err != nil {
		return workflow.Outcome{}, err
	}
	spec := w.Machine(f, nil)
	if previous {
		if err := note(op, noteImage, &spec.PreviousImageID); err != nil {
			return workflow.Outcome{}, err
		}
	}
	mc, err := m.putMachine(ctx, w, spec)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("make the machine: %w", err)
	}
	out, err := m.machineRunning(op, mc)
	if err != nil || !out.IsDone() {
		return out, err
	}
	return workflow.Done(), op.SetNote(noteMachine, mc.ID)
}

// removeNewMachine is the undo of newMachine: a machine of the old image is none that it made.
func (m *Manager) removeNewMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var image string
	if err := note(op, noteImage, &image); err != nil {
		return workflow.Outcome{}, err
	}
	_, after, err := m.versions(ctx, op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	switch {
	case trove.IsNotFound(err), err == nil && mc.ImageID == image && image != after.ImageID:
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	return m.makeRoom(ctx, op, image)
}

// removeForUpgrade makes room for the machine of the new version.
func (m *Manager) removeForUpgrade(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	_, after, err := m.versions(ctx, op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	return m.makeRoom(ctx, op, after.ImageID)
}

// dropPatience is how long an upgrade that is over waits for the cloud to take the previous image away.
const dropPatience = time.Minute

// dropPrevious takes away what only the upgrade has needed. What cannot be taken away now goes when the machine is stopped or removed.
func (m *Manager) dropPrevious(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	r, ok := m.cloud.(cloud.Rebuilder)
	if !ok {
		return workflow.Done(), nil
	}
	waited, err := m.waited(op)
	if err != nil {
		return workflow.Outcome{}, err
	}
	done, err := r.DropPrevious(ctx, op.Target())
	if done && err == nil {
		return workflow.Done(), nil
	}
	if ctx.Err() == nil && (trove.IsPermanent(err) || waited > dropPatience) {
		m.log.WarnContext(ctx, "previous image was not taken away from the machine", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), nil
	}
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("take the previous image away: %w", err)
	}
	return workflow.Again(m.pause(op), "taking the previous image away"), nil
}

// giveUpgrade is the command that takes the data over and starts the new version on it.
func (m *Manager) giveUpgrade(ctx context.Context, op *workflow.Op) (command, error) {
	before, after, err := m.versions(ctx, op)
	if err != nil {
		return command{}, err
	}
	return command{
		cmd:   guestapi.CmdUpgrade,
		doing: fmt.Sprintf("the change from %s to %s", before.Name, after.Name),
		args: func(ctx context.Context) (any, error) {
			i, err := m.store.Instance(ctx, op.Target())
			if err != nil {
				return nil, fmt.Errorf("read instance %s: %w", op.Target(), err)
			}
			f, err := m.flavorOf(ctx, &i)
			if err != nil {
				return nil, err
			}
			settings, err := m.configureArgs(ctx, &i, f)
			if err != nil {
				return nil, err
			}
			mc, err := m.cloud.FindMachine(ctx, op.Target())
			if err != nil {
				return nil, fmt.Errorf("find the machine: %w", err)
			}
			return guestapi.UpgradeArgs{ConfigureArgs: settings, Previous: mc.PreviousImageID != ""}, nil
		},
	}, nil
}

// restoreKept is the undo of keeping the data: what was touched comes back, and the copy goes. If it cannot, that is noted: the old version must not be
// started on data that is another one's, and the copy is still there for whoever mends it.
func (m *Manager) restoreKept(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	deleting, err := m.deleting(ctx, op)
	if err != nil || deleting {
		return workflow.Done(), err
	}
	var lost bool
	if err := note(op, noteLost, &lost); err != nil || lost {
		return workflow.Done(), err
	}
	back := command{cmd: guestapi.CmdRestoreData, doing: "putting the kept data back"}
	done, out, err := m.afterCommand(ctx, op, back, func(bool) bool { return true })
	if done {
		return workflow.Done(), nil
	}
	late, noted := m.impatient(op)
	if noted != nil {
		return workflow.Outcome{}, noted
	}
	if trove.IsPermanent(err) || late {
		m.log.ErrorContext(ctx, "kept data was not put back", "instance", op.Target(), "op", op.ID(), "err", err)
		return workflow.Done(), op.SetNote(noteLost, true)
	}
	return out, err
}

// startUnlessLost starts the database again, unless what it would be started on is not whole.
func (m *Manager) startUnlessLost(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var lost bool
	if err := note(op, noteLost, &lost); err != nil || lost {
		return workflow.Done(), err
	}
	if aside, err := stranded(ctx, m.store, op); err != nil || aside {
		return workflow.Done(), err
	}
	return m.engineBack(ctx, op)
}

// upgradeClosed writes the new version, with the way back beside it; or that all is as before; or that the data is still aside.
func (m *Manager) upgradeClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	var in trove.UpgradeInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	var lost bool
	k := trove.KeptData{InstanceID: op.Target(), DatastoreVersionID: in.Old, Since: m.clock.Now()}
	for key, v := range map[string]any{noteLost: &lost, noteImage: &k.ImageID, noteBytes: &k.Bytes} {
		if err := note(op, key, v); err != nil {
			return err
		}
	}
	c := closing{what: "The upgrade was taken back", failed: trove.TaskNone, restarts: true}
	if failedStep(op) == "check" {
		c.what = "The upgrade was refused and nothing was changed"
	}
	if lost {
		c.what, c.failed = "The upgrade failed and the kept data is not in its place yet", trove.TaskUpgradingError
	}
	c.change = func(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, ok bool) error {
		if ok {
			i.DatastoreVersionID, i.ServerStatus = in.New, trove.ServerActive
		}
		return rebuilt(ctx, tx, op, i)
	}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if state == trove.OperationDone || lost {
		if err := tx.PutKeptData(ctx, k); err != nil {
			return err //nolint:wrapcheck // says whose
		}
	}
	if state != trove.OperationDone && failedStep(op) != "check" {
		if err := tx.ForgetCertificate(ctx, op.Target()); err != nil {
			return err //nolint:wrapcheck // says whose; with the kept data the one of before came back
		}
	}
	if state == trove.OperationDone {
		return m.serving(ctx, tx, op)
	}
	return nil
}

// failedStep returns the step that failed first, "" if none did.
func failedStep(op *workflow.Op) string {
	var step string
	_, _ = op.Note(noteFailed, &step) // evidence only
	return step
}
