package taskmanager

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/workflow"
)

// migrateInstance moves the machine to another host, where the cloud has several. The engine is stopped meanwhile.
func (m *Manager) migrateInstance() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpMigrate,
		Deadline: 2 * time.Hour,
		Steps: []workflow.Step{
			{Name: "engine", Says: "stopping the database", Do: m.stopForRest, Undo: blame(m.engineBack), Deadline: 12 * time.Minute, Weight: 4},
			{Name: "machine", Says: "moving the machine", Do: m.moveMachine, Undo: blame(m.bringBack), Deadline: time.Hour, Weight: 4},
			{Name: "start", Says: "starting the database", Do: m.guestStep(m.startEngine), Undo: blame(nil), Deadline: 20 * time.Minute, Weight: 4},
			{Name: "ready", Says: "finishing", Do: m.ready, Undo: blame(nil)},
		},
		Closed: m.broughtUpAgain("The migration failed", nil),
	}
}

// moveMachine moves the machine away from the host that it was on when the step began, so that a run after a crash does not move it once more.
func (m *Manager) moveMachine(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var in trove.MigrateInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	mover, ok := m.cloud.(cloud.Migrator)
	if !ok {
		return workflow.Outcome{}, trove.Permanent(trove.Errorf(trove.KindNotImplemented, "This cloud cannot move machines to another host."))
	}
	var from string
	known, err := op.Note(noteHost, &from)
	if err != nil {
		return workflow.Outcome{}, trove.Permanent(fmt.Errorf("read note %s: %w", noteHost, err))
	}
	if !known {
		if from, err = mover.MachineHost(ctx, op.Target()); err != nil {
			return workflow.Outcome{}, fmt.Errorf("ask for the host of the machine: %w", err)
		}
		return workflow.Again(0, "moving the machine"), op.SetNote(noteHost, from)
	}
	mc, err := mover.MigrateMachine(ctx, op.Target(), from, in.Host)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("move the machine: %w", err)
	}
	return m.machineRunning(op, mc)
}
