package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/trove-dbaas/trove/api/wire"
)

// ManagedOptions choose instances of all projects; the zero value is the first page of all, deleted ones too.
type ManagedOptions struct {
	Deleted *bool
	Project string
	Limit   int
	Marker  string // how many to skip, from the page before
}

func (o ManagedOptions) query() string {
	q := url.Values{}
	if o.Deleted != nil {
		q.Set("deleted", strconv.FormatBool(*o.Deleted))
	}
	for key, value := range map[string]string{"project_id": o.Project, "marker": o.Marker} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// AllManagedInstances returns the instances of all projects, the last changed first. It is for administrators, like all that follows.
func (c *Client) AllManagedInstances(ctx context.Context, o ManagedOptions) ([]wire.MgmtInstance, error) {
	var all []wire.MgmtInstance
	o.Limit = 200
	err := pages(func(marker string) ([]wire.Link, error) {
		o.Marker = marker
		var out wire.MgmtInstanceList
		err := c.do(ctx, http.MethodGet, "/mgmt/instances"+o.query(), nil, &out)
		all = append(all, out.Instances...)
		return out.Links, err
	})
	return all, err
}

func mgmtPath(id, more string) string { return "/mgmt/instances/" + url.PathEscape(id) + more }

// ManagedInstance returns an instance with what the cloud and the guest say of it, or one that was deleted.
func (c *Client) ManagedInstance(ctx context.Context, id string, deleted bool) (wire.MgmtInstance, error) {
	more := ""
	if deleted {
		more = "?deleted=true"
	}
	var out wire.MgmtInstanceBody
	err := c.do(ctx, http.MethodGet, mgmtPath(id, more), nil, &out)
	return out.Instance, err
}

func (c *Client) manage(ctx context.Context, id string, a wire.MgmtAction) error {
	return c.do(ctx, http.MethodPost, mgmtPath(id, "/action"), a, nil)
}

// StopEngine ends the database server and leaves its machine alone; RestartInstance brings it up again.
func (c *Client) StopEngine(ctx context.Context, id string) error {
	return c.manage(ctx, id, wire.MgmtAction{Stop: &struct{}{}})
}

// RebootInstance starts the machine afresh, and the database server in it.
func (c *Client) RebootInstance(ctx context.Context, id string) error {
	return c.manage(ctx, id, wire.MgmtAction{Reboot: &struct{}{}})
}

// RebuildInstance makes the machine anew from an image, that of the instance's datastore version; the volume stays.
func (c *Client) RebuildInstance(ctx context.Context, id, image string) error {
	return c.manage(ctx, id, wire.MgmtAction{Rebuild: &wire.Rebuild{ImageID: image}})
}

// MigrateInstance moves the machine to the host, "" for any other.
func (c *Client) MigrateInstance(ctx context.Context, id, host string) error {
	return c.manage(ctx, id, wire.MgmtAction{Migrate: &wire.Migrate{Host: host}})
}

// ResetTask clears a task that is stuck and cancels the operation behind it.
func (c *Client) ResetTask(ctx context.Context, id string) error {
	return c.manage(ctx, id, wire.MgmtAction{ResetTaskStatus: &struct{}{}})
}

// RootHistory says when the superuser was enabled last.
func (c *Client) RootHistory(ctx context.Context, id string) (wire.RootHistory, error) {
	var out wire.RootHistoryBody
	err := c.do(ctx, http.MethodGet, mgmtPath(id, "/root"), nil, &out)
	return out.RootHistory, err
}

// PingGuest asks the guest agent for an answer.
func (c *Client) PingGuest(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodGet, mgmtPath(id, "/rpc_ping"), nil, nil)
}

// Hardware asks the guest how much memory and how many cores it has.
func (c *Client) Hardware(ctx context.Context, id string) (wire.Hardware, error) {
	var out wire.HardwareBody
	err := c.do(ctx, http.MethodGet, mgmtPath(id, "/hwinfo"), nil, &out)
	return out.HWInfo, err
}

// Diagnostics asks the guest agent for the figures of its process.
func (c *Client) Diagnostics(ctx context.Context, id string) (wire.Diagnostics, error) {
	var out wire.DiagnosticsBody
	err := c.do(ctx, http.MethodGet, mgmtPath(id, "/diagnostics"), nil, &out)
	return out.Diagnostics, err
}
