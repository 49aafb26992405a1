package taskmanager

import (
	"context"
	"strings"
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

// leftStopped is the fault of an instance whose database was left stopped and could not be started, before the reason.
const leftStopped = "The database was left stopped by an operation that failed, and could not be started; mend the cause and restart the instance"

// restartClosed frees the instance. After a start that nobody asked for the fault stays that says why it was needed. A status that nobody has overwritten since is
// settled: serving after a success, unknown after a failure.
func (m *Manager) restartClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	var in trove.RestartInput
	if err := op.Input(&in); err != nil {
		return err //nolint:wrapcheck // says which operation
	}
	c := closing{what: "The restart failed", failed: trove.TaskNone, restarts: true}
	if in.LeftStopped {
		c.what, c.keeps = leftStopped, func(f *trove.Fault) bool { return f != nil && !strings.HasPrefix(f.Message, leftStopped) }
	}
	if err := m.closed(c)(ctx, tx, op, state, cause); err != nil {
		return err
	}
	if state == trove.OperationDone {
		return m.serving(ctx, tx, op)
	}
	return m.unsettled(ctx, tx, op)
}
