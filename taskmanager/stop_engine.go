package taskmanager

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// stopInstanceEngine ends the engine and leaves its machine alone: Trove's stop for administrators. A restart or a reboot brings it up again. A stop that fails
// or is cancelled starts again what it has stopped.
func (m *Manager) stopInstanceEngine() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpStopEngine,
		Deadline: 15 * time.Minute,
		Steps: []workflow.Step{
			{Name: "engine", Says: "stopping the database", Do: m.guestStep(stopOnly), Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.stopEngineClosed,
	}
}

func stopOnly(context.Context, *workflow.Op) (command, error) {
	return command{cmd: guestapi.CmdStop, doing: "stopping the database"}, nil
}

// stopEngineClosed notes that the database is down, as the guest's own heartbeats say from now on.
func (m *Manager) stopEngineClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	c := closing{what: "The database could not be stopped", failed: trove.TaskNone}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil || state != trove.OperationDone {
		return err
	}
	return m.notServing(ctx, tx, op)
}
