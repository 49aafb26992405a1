package taskmanager

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
)

// An instance of a Python Trove is created around the volume and the ports that it has: `trove manage adopt` has made them the instance's (cloud.Adopter) and asks for a create that says
// so. What fails removes the machine and nothing else, so that the way back stays.

// adopts reports whether a create takes over what is there.
func adopts(op *workflow.Op) (bool, error) {
	var in trove.CreateInput
	err := op.Input(&in)
	return in.Adopt, err //nolint:wrapcheck // says which operation
}

// adoptable refuses to make anew what ought to be there with data and addresses.
func (m *Manager) adoptable(ctx context.Context, op *workflow.Op) error {
	adopt, err := adopts(op)
	if err != nil || !adopt {
		return err
	}
	if _, err := m.cloud.FindVolume(ctx, op.Target()); trove.IsNotFound(err) {
		return trove.Permanent(trove.Wrap(trove.KindNotFound, err, "The volume that was to be taken over is not there."))
	} else if err != nil {
		return fmt.Errorf("find the volume: %w", err)
	}
	if _, err := m.cloud.FindNetwork(ctx, op.Target()); trove.IsNotFound(err) {
		return trove.Permanent(trove.Wrap(trove.KindNotFound, err, "The ports that were to be taken over are not there."))
	} else if err != nil {
		return fmt.Errorf("find the network: %w", err)
	}
	return nil
}

// undoNewVolume removes a volume that the create has made.
func (m *Manager) undoNewVolume(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	if adopt, err := adopts(op); err != nil || adopt {
		return workflow.Done(), err
	}
	return m.undoVolume(ctx, op)
}
