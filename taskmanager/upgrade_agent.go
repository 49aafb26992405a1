package taskmanager

import (
	"cmp"
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// Agents are the releases of the guest agent that this deployment has.
type Agents interface {
	// Get returns a release that was verified, "" for the newest; NotFound if it is not there.
	Get(version string) (agentrelease.Manifest, agentrelease.Signed, error)
	// Grant puts the release's program where guests can read it, as guestapi.AgentObject, and lets the instance's guest do so for an operation.
	Grant(ctx context.Context, instance, operation string, m agentrelease.Manifest) (guestapi.Grant, error)
}

// noteVersion is the note with the version of the release that was chosen.
const noteVersion = "agent_version"

// upgradeAgent puts another release of the guest agent in place. Database and instance notice nothing: the instance keeps its task and its status, and an
// end that was not good is told by the operation and by the timeline, not by a fault.
func (m *Manager) upgradeAgent() *workflow.Definition {
	return &workflow.Definition{
		Kind:     trove.OpUpgradeAgent,
		Deadline: 2 * time.Hour,
		Steps: []workflow.Step{
			{Name: "release", Says: "choosing the release", Do: m.chooseRelease},
			{Name: "upgrade", Says: "replacing the guest agent", Do: m.guestStep(m.giveRelease), Deadline: 100 * time.Minute, Weight: 8},
			{Name: "report", Says: "waiting for the new agent's report", Do: m.agentReports, Deadline: 5 * time.Minute},
		},
		Closed: m.upgradeAgentClosed,
	}
}

// chooseRelease keeps the version that the whole operation is about, whatever is added meanwhile.
func (m *Manager) chooseRelease(_ context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var in trove.UpgradeAgentInput
	if err := op.Input(&in); err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // says which operation
	}
	if m.agents == nil {
		return workflow.Outcome{}, trove.Errorf(trove.KindNotImplemented, "This deployment has no releases of the guest agent.")
	}
	release, _, err := m.agents.Get(in.Version)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("choose the release: %w", err)
	}
	return workflow.Done(), op.SetNote(noteVersion, release.Version)
}

func (m *Manager) giveRelease(_ context.Context, op *workflow.Op) (command, error) {
	var in trove.UpgradeAgentInput
	if err := op.Input(&in); err != nil {
		return command{}, err //nolint:wrapcheck // says which operation
	}
	var version string
	if err := note(op, noteVersion, &version); err != nil {
		return command{}, err
	}
	return command{
		cmd:   guestapi.CmdUpgradeAgent,
		doing: "replacing the guest agent by release " + version,
		args: func(ctx context.Context) (any, error) {
			release, signed, err := m.agents.Get(version)
			if err != nil {
				return nil, fmt.Errorf("read release %s: %w", version, err)
			}
			grant, err := m.agents.Grant(ctx, op.Target(), op.ID(), release)
			if err != nil {
				return nil, fmt.Errorf("let the guest read release %s: %w", version, err)
			}
			return guestapi.UpgradeAgentArgs{
				Version: release.Version, SHA256: release.SHA256, Manifest: signed.Manifest, Signature: signed.Signature, Grant: grant,
				HealthySeconds: in.HealthySeconds,
			}, nil
		},
	}, nil
}

// agentReports waits until the new version is recorded, which is what later reports are compared with.
func (m *Manager) agentReports(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
	var version string
	if err := note(op, noteVersion, &version); err != nil {
		return workflow.Outcome{}, err
	}
	i, err := m.store.Instance(ctx, op.Target())
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Guest.AgentVersion != version {
		return workflow.WaitFor("waiting for the guest to report version %s, it reported %s", version, cmp.Or(i.Guest.AgentVersion, "none")), nil
	}
	return workflow.Done(), nil
}

// upgradeAgentClosed leaves the instance as it is. That the version changed is in the timeline already, from the guest's own report.
func (m *Manager) upgradeAgentClosed(ctx context.Context, tx store.Tx, op *workflow.Op, state trove.OperationState, cause string) error {
	i, err := tx.Instance(ctx, op.Target())
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", op.Target(), err)
	}
	if i.Task == trove.TaskDeleting {
		m.deletes.Add(op.Target())
	}
	if state == trove.OperationDone {
		return nil
	}
	m.log.WarnContext(ctx, "guest agent was not upgraded", "instance", op.Target(), "op", op.ID(), "err", cause)
	err = tx.AppendInstanceEvent(ctx, trove.InstanceEvent{
		InstanceID: op.Target(), At: m.clock.Now(), Kind: trove.EventAgentRefused,
		Sentence: "The guest agent was not upgraded: " + cmp.Or(cause, "it was cancelled."), Details: "operation " + op.ID() + ", request " + op.RequestID(),
	})
	if err != nil {
		return fmt.Errorf("write into the timeline: %w", err)
	}
	return nil
}
