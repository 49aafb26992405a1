package taskmanager

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// restartInstance restarts the engine. A restart that failed leaves a fault, and the instance free for the next try.
func (m *Manager) restartInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpRestart,
		Deadline: 10 * time.Minute,
		Steps: []workflow.Step{
			{Name: "mark", Says: "marking the instance", Do: m.markRestarting},
			{Name: "restart", Says: "restarting the database", Do: m.guestStep(restart), Undo: blame(nil), Deadline: 5 * time.Minute, Weight: 8},
			{Name: "ready", Says: "finishing", Do: m.ready},
		},
		Closed: m.restartClosed,
	}
}

// markRestarting shows RESTARTING, which also ends a "restart required".
func (m *Manager) markRestarting(_ context.Context, op *workflow.Op) (workflow.Outcome, error) {
	now := m.clock.Now()
	return workflow.DoneWith(func(ctx context.Context, tx store.Tx) error {
		return tx.SetServiceStatus(ctx, op.Target(), trove.ServiceRestarting, now) //nolint:wrapcheck // the engine adds the step
	}), nil
}

func restart(context.Context, *workflow.Op) (command, error) {
	return command{cmd: guestapi.CmdRestart, doing: "restarting the database"}, nil
}

// restartClosed frees the instance. A status that nobody has overwritten since is settled: serving after a success, unknown after a failure.
func (m *Manager) restartClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	if err := m.closed(closing{what: "The restart failed", failed: trove.TaskNone, restarts: true})(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if state == trove.OperationDone {
		return m.serving(ctx, tx, op)
	}
	return m.unsettled(ctx, tx, op)
}
