package api

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// upgradeAgent begins an upgrade of the guest agent. It needs a machine that runs and nothing else: also an instance whose database is down may need a
// better agent. The task is not changed, so the status that users see stays what it is.
func (s *server) upgradeAgent(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:upgrade_agent", c.instance.ProjectID); err != nil {
		return nil, err
	}
	want := c.body.obj("upgrade_agent")
	seconds, _ := whole(want["healthy_seconds"])
	input := trove.UpgradeAgentInput{Version: want.str("version"), HealthySeconds: seconds}
	return nil, s.begin(ctx, c, trove.OpUpgradeAgent, &input, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		if i.Task != trove.TaskNone && i.Task != trove.TaskRestartRequired || i.ServerStatus != trove.ServerActive {
			return trove.Errorf(trove.KindUnprocessable, "The guest agent of instance %s cannot be upgraded now (task %s, machine %s): it must run, and nothing else may be under way.",
				i.ID, i.Task.Action(), i.ServerStatus)
		}
		return nil
	})
}

func (s *server) listAgents(ctx context.Context, c *call) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Store.Instances(ctx, store.InstanceFilter{Marker: unquote(p.marker), Limit: p.limit + 1})
	if err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	out := wire.AgentList{Agents: []wire.Agent{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
	}
	for n := range found {
		i := &found[n]
		out.Agents = append(out.Agents, wire.Agent{
			InstanceID: i.ID, InstanceName: i.Name, ProjectID: i.ProjectID, Version: i.Guest.AgentVersion, Seen: i.Guest.SeenAt,
			Running: i.ServerStatus == trove.ServerActive,
		})
	}
	return &out, nil
}
