package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// rebuildInstance gives the instance a new machine, made from the image that its datastore version has now. Volume and network stay, and with the volume
// the data, the settings and the identity of the guest. Once the old machine is gone there is no way back to it: an undo makes a new one too.
func (m *Manager) rebuildInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpRebuild,
		Deadline: 14 * time.Hour,
		Steps: []workflow.Step{
			{Name: "check", Says: "looking for the image and the volume", Do: m.checkRebuild, Undo: blame(nil), Deadline: outage},
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "remove", Says: "removing the machine", Do: m.removeForRebuild, Undo: blame(m.bringBack), Deadline: 5 * time.Minute},
			{Name: "machine", Says: "making the machine", Do: m.rebuildMachine, Undo: blame(nil), Deadline: max(10*time.Minute, m.patience.Boot), Weight: 2},
			{Name: "start", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 30 * time.Minute, Weight: 6},
			{Name: "finish", Says: "fitting the data to the image", Do: m.finishUpgrade, Undo: blame(nil), Deadline: 12 * time.Hour, Weight: 2},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.broughtUpAgain("The rebuild failed", rebuilt),
	}
}

// checkRebuild refuses before anything is taken away what could not be brought back. A port that the owner of its network has deleted is made again.
func (m *Manager) checkRebuild(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	if err := m.cloud.ImageExists(ctx, w.Version.ImageID); trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "Image %s cannot be found.", w.Version.ImageID))
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the image: %w", err)
	}
	if out, err := m.startNetwork(ctx, op); err != nil || !out.IsDone() {
		return out, err
	}
	return m.startVolume(ctx, op)
}

// removeForRebuild makes room for the new machine.
func (m *Manager) removeForRebuild(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	return m.makeRoom(ctx, op, w.Version.ImageID)
}

// makeRoom removes the machine, for one from the image. Where the cloud gives a machine another image in place it is left for that, unless it has failed.
func (m *Manager) makeRoom(ctx context.Context, op *workflow.Op, image string) (workflow.Outcome, error) {
	if _, ok := m.cloud.(cloud.Rebuilder); ok {
		mc, err := m.cloud.FindMachine(ctx, op.Target())
		switch {
		case trove.IsNotFound(err):
			return workflow.Done(), nil
		case err != nil:
			return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
		case mc.State != cloud.MachineFailed && mc.ImageID != image:
			return workflow.Done(), nil
		}
	}
	if err := m.cloud.RemoveMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the machine: %w", err)
	}
	return workflow.Done(), nil
}

func (m *Manager) rebuildMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	f, err := m.flavorOf(ctx, &w.Instance)
	if err != nil {
		return workflow.Outcome{}, err
	}
	mc, err := m.putMachine(ctx, w, w.Machine(f, nil))
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("make the machine: %w", err)
	}
	out, err := m.machineRunning(op, mc)
	if err != nil || !out.IsDone() {
		return out, err
	}
	return workflow.Done(), op.SetNote(noteMachine, mc.ID)
}

// putMachine makes the machine run from the image of the specification: a machine that is there with another image gets it in place, with boot data and a token
// of its own. The boot data of the specification is made here.
func (m *Manager) putMachine(ctx context.Context, w specs.Wish, spec cloud.MachineSpec) (cloud.Machine, error) {
	mc, err := m.cloud.FindMachine(ctx, w.Instance.ID)
	if err != nil && !trove.IsNotFound(err) {
		return cloud.Machine{}, fmt.Errorf("find the machine: %w", err)
	}
	there := err == nil
	r, inPlace := m.cloud.(cloud.Rebuilder)
	inPlace = inPlace && there && mc.ImageID != spec.ImageID && mc.State != cloud.MachinePending && mc.State != cloud.MachineFailed
	var token trove.Secret
	if !there || inPlace {
		if token, err = m.newToken(ctx, w.Instance.ID); err != nil {
			return cloud.Machine{}, err
		}
	}
	if spec.BootData, err = w.BootData(m.enrolment, token); err != nil {
		return cloud.Machine{}, err //nolint:wrapcheck // says what
	}
	if inPlace {
		return r.RebuildMachine(ctx, spec) //nolint:wrapcheck // the caller says what for
	}
	return m.cloud.EnsureMachine(ctx, spec) //nolint:wrapcheck // the caller says what for
}

// rebuilt writes which machine the instance has, if it was made, and which addresses.
func rebuilt(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance) error {
	return errors.Join(note(op, noteMachine, &i.ComputeID), addressed(ctx, tx, op, i))
}
