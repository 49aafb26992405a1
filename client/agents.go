package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/trove-dbaas/trove/api/wire"
)

// AllAgents returns the guest agents of all projects' instances. It is for administrators.
func (c *Client) AllAgents(ctx context.Context) ([]wire.Agent, error) {
	var all []wire.Agent
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.AgentList
		err := c.do(ctx, http.MethodGet, "/mgmt/agents"+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Agents...)
		return out.Links, err
	})
	return all, err
}

// UpgradeAgent begins to put a release of the guest agent in place and returns the operation's id. It is for administrators.
func (c *Client) UpgradeAgent(ctx context.Context, instance string, args wire.UpgradeAgentArgs) (operation string, err error) {
	path := "/mgmt/instances/" + url.PathEscape(instance) + "/action"
	err = c.do(Began(ctx, &operation), http.MethodPost, path, wire.UpgradeAgent{UpgradeAgent: args}, nil)
	return operation, err
}
