package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// resizeVolume grows the data volume and its file system, while the database runs or the instance is stopped. A volume that has grown stays grown: when a later step
// fails, the row and the quota say what there is.
func (m *Manager) resizeVolume() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpResizeVolume,
		Deadline: max(30*time.Minute, 20*time.Minute+m.patience.Volume),
		Steps: []workflow.Step{
			{Name: "volume", Says: "growing the volume", Do: m.growVolume, Undo: blame(m.measureVolume), Deadline: max(10*time.Minute, m.patience.Volume), Weight: 2},
			{Name: "grow", Says: "growing the file system", Do: m.ifRunning(m.guestStep(growFileSystem)), Undo: blame(nil), Deadline: 10 * time.Minute, Weight: 2},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.closed(closing{what: "The resize of the volume failed", failed: trove.TaskNone, change: volumeResized}),
	}
}

func (m *Manager) growVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var in trove.ResizeVolumeInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	w, err := specs.Load(ctx, m.store, op.Target())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which instance
	}
	// A volume that is gone is not made anew: an empty one would look like a database that has lost its data.
	if _, err := m.cloud.FindVolume(ctx, op.Target()); trove.IsNotFound(err) {
		return workflow.Outcome{}, trove.Permanent(trove.Wrap(trove.KindInternal, err, "The data volume of the instance is gone."))
	} else if err != nil {
		return workflow.Outcome{}, fmt.Errorf("find the volume: %w", err)
	}
	v, out, err := m.volumeReady(ctx, op, w, in.New)
	if err != nil || v.ID == "" {
		return out, err
	}
	return workflow.Done(), op.SetNote(noteSize, v.SizeGiB)
}

// measureVolume is the undo of growVolume: it changes nothing, and finds out how large the volume became.
func (m *Manager) measureVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	v, err := m.cloud.FindVolume(ctx, op.Target())
	switch {
	case trove.IsNotFound(err):
		return workflow.Done(), nil
	case err != nil:
		return workflow.Outcome{}, fmt.Errorf("find the volume: %w", err)
	case !v.Ready && v.Failed == "":
		return workflow.Again(m.pause(op), "waiting for the volume"), nil
	}
	return workflow.Done(), op.SetNote(noteSize, v.SizeGiB)
}

func growFileSystem(_ context.Context, op *workflow.Op) (command, error) {
	var in trove.ResizeVolumeInput
	if err := op.Input(&in); err != nil {
		return command{}, err //nolint:wrapcheck // says which operation
	}
	return command{
		cmd:   guestapi.CmdGrow,
		doing: "growing the file system",
		args:  func(context.Context) (any, error) { return guestapi.GrowArgs{SizeGiB: in.New}, nil },
	}, nil
}

// volumeResized writes the size that the volume has, and keeps the quota of just that.
func volumeResized(ctx context.Context, tx store.Tx, op *workflow.Op, i *trove.Instance, _ bool) error {
	var in trove.ResizeVolumeInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	size := in.Old
	if err := note(op, noteSize, &size); err != nil {
		return err
	}
	i.VolumeSize = size
	return settle(ctx, tx, i, trove.QuotaVolumes, size)
}
