package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// rebuildInstance gives the instance a new machine, made from the image that its datastore version has now. Volume and network stay, and with the volume
// the data, the settings and the identity of the guest. Once the old machine is gone there is no way back to it: an undo makes a new one too.
func (m *Manager) rebuildInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpRebuild,
		Deadline: 14 * time.Hour,
		Steps: []workflow.Step{
			{Name: "check", Says: "looking for the image and the volume", Do: m.checkRebuild, Undo: blame(nil), Deadline: 2 * time.Minute},
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "remove", Says: "removing the machine", Do: m.removeForRebuild, Undo: blame(m.bringBack), Deadline: 5 * time.Minute},
			{Name: "machine", Says: "making the machine", Do: m.rebuildMachine, Undo: blame(nil), Deadline: 10 * time.Minute, Weight: 2},
			{Name: "start", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 30 * time.Minute, Weight: 6},
			{Name: "finish", Says: "fitting the data to the image", Do: m.finishUpgrade, Undo: blame(nil), Deadline: 12 * time.Hour, Weight: 2},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.broughtUpAgain("The rebuild failed", rebuilt),
	}
}

// checkRebuild refuses before anything is taken away what could not be brought back.
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
	return m.startVolume(ctx, op)
}

// removeForRebuild removes the machine, unless the instance is to be deleted anyway.
func (m *Manager) removeForRebuild(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if err := m.cloud.RemoveMachine(ctx, op.Target()); err != nil {
		return workflow.Outcome{}, fmt.Errorf("remove the machine: %w", err)
	}
	return workflow.Done(), nil
}

func (m *Manager) rebuildMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	out, err := m.startMachine(ctx, op)
	if err != nil || !out.IsDone() {
		return out, err
	}
	mc, err := m.cloud.FindMachine(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the machine: %w", err)
	}
	if mc.State != cloud.MachineRunning {
		return workflow.Again(pause(op), "waiting for the machine to start"), nil
	}
	return workflow.Done(), op.SetNote(noteMachine, mc.ID)
}

// rebuilt writes which machine the instance has, if it was made.
func rebuilt(op *workflow.Op, i *trove.Instance) error { return note(op, noteMachine, &i.ComputeID) }
