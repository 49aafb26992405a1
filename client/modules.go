package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/trove-dbaas/trove/api/wire"
)

// Modules returns the modules that the caller may see; datastore is an id, a name, "all" for those of every datastore, or "" for any.
func (c *Client) Modules(ctx context.Context, datastore string) ([]wire.Module, error) {
	var all []wire.Module
	q := url.Values{}
	if datastore != "" {
		q.Set("datastore", datastore)
	}
	err := pages(func(marker string) ([]wire.Link, error) {
		if marker != "" {
			q.Set("marker", marker)
		}
		var out wire.ModuleList
		err := c.do(ctx, http.MethodGet, "/modules"+encodeQuery(q), nil, &out)
		all = append(all, out.Modules...)
		return out.Links, err
	})
	return all, err
}

func modulePath(id string, more ...string) string {
	return "/modules/" + strings.Join(append([]string{url.PathEscape(id)}, more...), "/")
}

// Module returns the module with the id.
func (c *Client) Module(ctx context.Context, id string) (wire.Module, error) {
	var out wire.ModuleBody
	err := c.do(ctx, http.MethodGet, modulePath(id), nil, &out)
	return out.Module, err
}

// FindModule returns the module with the id or the name. Two of the same name are an error that lists their ids.
func (c *Client) FindModule(ctx context.Context, idOrName string) (wire.Module, error) {
	m, err := c.Module(ctx, idOrName)
	if err == nil || !IsNotFound(err) {
		return m, err
	}
	all, err := c.Modules(ctx, "")
	if err != nil {
		return m, err
	}
	names := make([]named, len(all))
	for n, m := range all {
		names[n] = named{m.ID, m.Name}
	}
	id, err := pick("module", "module", idOrName, names)
	if err != nil {
		return m, err
	}
	return c.Module(ctx, id)
}

// CreateModule makes a module.
func (c *Client) CreateModule(ctx context.Context, m wire.ModuleChange) (wire.Module, error) {
	var out wire.ModuleBody
	err := c.create(ctx, "/modules", wire.ModuleChangeBody{Module: m}, &out)
	return out.Module, err
}

// UpdateModule changes a module.
func (c *Client) UpdateModule(ctx context.Context, id string, change wire.ModuleChange) (wire.Module, error) {
	var out wire.ModuleBody
	err := c.do(ctx, http.MethodPut, modulePath(id), wire.ModuleChangeBody{Module: change}, &out)
	return out.Module, err
}

// DeleteModule removes a module that no instance has.
func (c *Client) DeleteModule(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, modulePath(id), nil, nil)
}

// ModuleInstances returns the instances that have a module.
func (c *Client) ModuleInstances(ctx context.Context, id string, clustered bool) ([]wire.Instance, error) {
	var all []wire.Instance
	q := url.Values{}
	if clustered {
		q.Set("include_clustered", "true")
	}
	err := pages(func(marker string) ([]wire.Link, error) {
		if marker != "" {
			q.Set("marker", marker)
		}
		var out wire.InstanceList
		err := c.do(ctx, http.MethodGet, modulePath(id, "instances")+encodeQuery(q), nil, &out)
		all = append(all, out.Instances...)
		return out.Links, err
	})
	return all, err
}

// ModuleCounts returns how many instances have a module, by its contents.
func (c *Client) ModuleCounts(ctx context.Context, id string, clustered bool) ([]wire.ModuleCount, error) {
	q := url.Values{"count_only": {"true"}}
	if clustered {
		q.Set("include_clustered", "true")
	}
	var out wire.ModuleCounts
	err := c.do(ctx, http.MethodGet, modulePath(id, "instances")+encodeQuery(q), nil, &out)
	return out.Instances, err
}

// ReapplyModule applies a module again to the instances that have it.
func (c *Client) ReapplyModule(ctx context.Context, id string, which wire.ModuleReapply) error {
	return c.do(ctx, http.MethodPut, modulePath(id, "instances"), wire.ModuleReapplyBody{Reapply: which}, nil)
}

// InstanceModules returns the modules that an instance has, with contents those that the caller may read with them.
func (c *Client) InstanceModules(ctx context.Context, instance string, contents bool) ([]wire.Module, error) {
	q := url.Values{}
	if contents {
		q.Set("include_contents", "true")
	}
	var out wire.ModuleList
	err := c.do(ctx, http.MethodGet, instancePath(instance, "modules")+encodeQuery(q), nil, &out)
	return out.Modules, err
}

// ApplyModules applies modules to an instance.
func (c *Client) ApplyModules(ctx context.Context, instance string, modules ...string) error {
	var body wire.ModuleRefs
	for _, id := range modules {
		body.Modules = append(body.Modules, wire.ModuleRef{ID: id})
	}
	return c.create(ctx, instancePath(instance, "modules"), body, nil)
}

// RemoveModule removes a module from an instance.
func (c *Client) RemoveModule(ctx context.Context, instance, module string) error {
	return c.do(ctx, http.MethodDelete, instancePath(instance, "modules", url.PathEscape(module)), nil, nil)
}
