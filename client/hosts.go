package client

import (
	"context"
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

// Hosts returns how full the machines are that instances run on. It needs the role admin.
func (c *Client) Hosts(ctx context.Context) ([]wire.Host, error) {
	var out wire.HostList
	err := c.do(ctx, http.MethodGet, "/mgmt/host-status", nil, &out)
	return out.Hosts, err
}
