package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/trove-dbaas/trove/api/wire"
)

// UpgradeInstance gives the instance another version of its datastore. The data of before is kept until ConfirmUpgrade.
func (c *Client) UpgradeInstance(ctx context.Context, id, version string) error {
	return c.UpdateInstance(ctx, id, wire.InstanceUpdate{DatastoreVersion: version})
}

// Upgrade shows what the last upgrade has kept. With a version, not "", the database is asked what a change to it would meet.
func (c *Client) Upgrade(ctx context.Context, id, version string) (wire.Upgrade, error) {
	path := instancePath(id, "upgrade")
	if version != "" {
		path += "?" + url.Values{"datastore_version": {version}}.Encode()
	}
	var out wire.UpgradeBody
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out.Upgrade, err
}

// RollbackUpgrade goes back to the version and the data of before the last upgrade. What was written since is lost.
func (c *Client) RollbackUpgrade(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{UpgradeRollback: &struct{}{}})
}

// ConfirmUpgrade drops the data of before the last upgrade.
func (c *Client) ConfirmUpgrade(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{UpgradeConfirm: &struct{}{}})
}
