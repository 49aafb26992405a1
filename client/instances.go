package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// ListOptions choose a page; the zero value is the first one.
type ListOptions struct {
	Limit  int
	Marker string
}

func (o ListOptions) query() string {
	q := url.Values{}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Marker != "" {
		q.Set("marker", o.Marker)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// nextMarker returns the marker of the next page, "" on the last one.
func nextMarker(links []wire.Link) string {
	for _, l := range links {
		if l.Rel != "next" {
			continue
		}
		if u, err := url.Parse(l.Href); err == nil {
			return u.Query().Get("marker")
		}
	}
	return ""
}

// pages calls page with the marker of each page until the last one.
func pages(page func(marker string) ([]wire.Link, error)) error {
	for marker := ""; ; {
		links, err := page(marker)
		if err != nil {
			return err
		}
		next := nextMarker(links)
		if next == "" || next == marker {
			return nil
		}
		marker = next
	}
}

// Instances returns one page of the project's instances and the marker of the next page, "" for the last.
func (c *Client) Instances(ctx context.Context, o ListOptions) ([]wire.Instance, string, error) {
	var out wire.InstanceList
	err := c.do(ctx, http.MethodGet, "/instances"+o.query(), nil, &out)
	return out.Instances, nextMarker(out.Links), err
}

// AllInstances returns all of the project's instances.
func (c *Client) AllInstances(ctx context.Context) ([]wire.Instance, error) {
	var all []wire.Instance
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.InstanceList
		err := c.do(ctx, http.MethodGet, "/instances"+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Instances...)
		return out.Links, err
	})
	return all, err
}

// FindInstance returns the instance with the id or the name. Two of the same name are an error that lists their ids.
func (c *Client) FindInstance(ctx context.Context, idOrName string) (wire.Instance, error) {
	i, err := c.Instance(ctx, idOrName)
	if err == nil || !IsNotFound(err) {
		return i, err
	}
	all, lerr := c.AllInstances(ctx)
	if lerr != nil {
		return wire.Instance{}, lerr
	}
	var found []wire.Instance
	for _, i := range all {
		if i.Name == idOrName {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return wire.Instance{}, &Error{Status: http.StatusNotFound, Fault: "itemNotFound", Message: fmt.Sprintf("There is no instance with the id or name %q; `trove instance list` shows all.", idOrName)}
	case 1:
		return c.Instance(ctx, found[0].ID)
	}
	return wire.Instance{}, &Error{Status: http.StatusConflict, Fault: "conflict", Message: fmt.Sprintf("%d instances have the name %q; use an id: %s, %s.", len(found), idOrName, found[0].ID, found[1].ID)}
}

func instancePath(id string, more ...string) string {
	return "/instances/" + strings.Join(append([]string{url.PathEscape(id)}, more...), "/")
}

// Instance returns the instance with the id.
func (c *Client) Instance(ctx context.Context, id string) (wire.Instance, error) {
	var out wire.InstanceBody
	err := c.do(ctx, http.MethodGet, instancePath(id), nil, &out)
	return out.Instance, err
}

// CreateInstance asks for an instance and returns it as it is then: being built. A lost connection does not make two; another call
// makes another one.
func (c *Client) CreateInstance(ctx context.Context, spec wire.InstanceCreate) (wire.Instance, error) {
	var out wire.InstanceBody
	err := c.create(ctx, "/instances", wire.InstanceCreateBody{Instance: spec}, &out)
	return out.Instance, err
}

// UpdateInstance changes name or access.
func (c *Client) UpdateInstance(ctx context.Context, id string, change wire.InstanceUpdate) error {
	return c.do(ctx, http.MethodPut, instancePath(id), wire.InstanceUpdateBody{Instance: change}, nil)
}

// AttachConfiguration gives the instance a configuration group. It returns when the database has what the group says.
func (c *Client) AttachConfiguration(ctx context.Context, id, group string) error {
	return c.do(ctx, http.MethodPut, instancePath(id), wire.InstanceUpdateBody{Instance: wire.InstanceUpdate{Configuration: wire.SetConfiguration(group)}}, nil)
}

// DetachConfiguration takes the instance's configuration group.
func (c *Client) DetachConfiguration(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPut, instancePath(id), wire.InstanceUpdateBody{Instance: wire.InstanceUpdate{Configuration: wire.SetConfiguration("")}}, nil)
}

// DeleteInstance asks for the instance to be removed.
func (c *Client) DeleteInstance(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, instancePath(id), nil, nil)
}

func (c *Client) action(ctx context.Context, id string, a wire.Action) error {
	return c.do(ctx, http.MethodPost, instancePath(id, "action"), a, nil)
}

// RestartInstance restarts the database server.
func (c *Client) RestartInstance(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{Restart: &struct{}{}})
}

// StopInstance ends the database server and its machine; data, addresses and quota stay.
func (c *Client) StopInstance(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{Stop: &struct{}{}})
}

// StartInstance starts an instance that was stopped.
func (c *Client) StartInstance(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{Start: &struct{}{}})
}

// ResizeFlavor gives the instance another flavor.
func (c *Client) ResizeFlavor(ctx context.Context, id, flavor string) error {
	return c.action(ctx, id, wire.Action{Resize: &wire.Resize{FlavorRef: wire.Ref(flavor)}})
}

// ResizeVolume grows the data volume to the size in GiB.
func (c *Client) ResizeVolume(ctx context.Context, id string, gib int) error {
	return c.action(ctx, id, wire.Action{Resize: &wire.Resize{Volume: &wire.VolumeCreate{Size: wire.Size(gib)}}})
}

// ResetStatus clears a task that is stuck. It needs the role admin.
func (c *Client) ResetStatus(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{ResetStatus: &wire.ResetBody{}})
}

// ForceDelete clears what is being done to an instance, so that DeleteInstance finds nothing in its way. Its owner may.
func (c *Client) ForceDelete(ctx context.Context, id string) error {
	return c.action(ctx, id, wire.Action{ResetStatus: &wire.ResetBody{ForceDelete: true}})
}

// Operations returns the operations of an instance, newest first.
func (c *Client) Operations(ctx context.Context, instance string) ([]wire.Operation, error) {
	var out wire.OperationList
	err := c.do(ctx, http.MethodGet, instancePath(instance, "operations"), nil, &out)
	return out.Operations, err
}

// Events returns a page of an instance's timeline, oldest first: what happened to it and what its operations did. The marker is the ID of the last
// entry that the caller knows. An instance that was deleted is named by its id.
func (c *Client) Events(ctx context.Context, instance string, o ListOptions) (events []wire.InstanceEvent, more bool, err error) {
	var out wire.InstanceEventList
	err = c.do(ctx, http.MethodGet, instancePath(instance, "events")+o.query(), nil, &out)
	return out.Events, nextMarker(out.Links) != "", err
}

// Operation returns an operation with its timeline. With wait it returns as soon as its version is greater than since, or when the time has passed.
func (c *Client) Operation(ctx context.Context, instance, id string, since int64, wait time.Duration) (wire.Operation, error) {
	path := instancePath(instance, "operations", url.PathEscape(id))
	if wait > 0 {
		path += fmt.Sprintf("?wait=%s&since=%d", wait, since)
	}
	var out wire.OperationBody
	err := c.do(ctx, http.MethodGet, path, nil, &out)
	return out.Operation, err
}

// CancelOperation asks for an operation to be stopped and undone.
func (c *Client) CancelOperation(ctx context.Context, instance, id string) error {
	return c.do(ctx, http.MethodPost, instancePath(instance, "operations", url.PathEscape(id), "action"), wire.OperationAction{Cancel: &struct{}{}}, nil)
}
