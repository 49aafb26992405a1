package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/trove-dbaas/trove/api/wire"
)

// Configurations returns all configuration groups of the project; for administrators those of all projects.
func (c *Client) Configurations(ctx context.Context) ([]wire.ConfigurationGroup, error) {
	var all []wire.ConfigurationGroup
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.ConfigurationGroupList
		err := c.do(ctx, http.MethodGet, "/configurations"+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Configurations...)
		return out.Links, err
	})
	return all, err
}

func configurationPath(id string) string { return "/configurations/" + url.PathEscape(id) }

// Configuration returns the configuration group with the id.
func (c *Client) Configuration(ctx context.Context, id string) (wire.ConfigurationGroup, error) {
	var out wire.ConfigurationGroupBody
	err := c.do(ctx, http.MethodGet, configurationPath(id), nil, &out)
	return out.Configuration, err
}

// FindConfiguration returns the configuration group with the id or the name. Two of the same name are an error that lists their ids.
func (c *Client) FindConfiguration(ctx context.Context, idOrName string) (wire.ConfigurationGroup, error) {
	g, err := c.Configuration(ctx, idOrName)
	if err == nil || !IsNotFound(err) {
		return g, err
	}
	all, lerr := c.Configurations(ctx)
	if lerr != nil {
		return wire.ConfigurationGroup{}, lerr
	}
	var found []wire.ConfigurationGroup
	for _, g := range all {
		if g.Name == idOrName {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return wire.ConfigurationGroup{}, &Error{
			Status: http.StatusNotFound, Fault: "itemNotFound",
			Message: fmt.Sprintf("There is no configuration group with the id or name %q; `trove configuration list` shows all.", idOrName),
		}
	case 1:
		return c.Configuration(ctx, found[0].ID)
	}
	return wire.ConfigurationGroup{}, &Error{
		Status: http.StatusConflict, Fault: "conflict",
		Message: fmt.Sprintf("%d configuration groups have the name %q; use an id: %s, %s.", len(found), idOrName, found[0].ID, found[1].ID),
	}
}

// CreateConfiguration makes a configuration group.
func (c *Client) CreateConfiguration(ctx context.Context, spec wire.ConfigurationCreate) (wire.ConfigurationGroup, error) {
	var out wire.ConfigurationGroupBody
	err := c.create(ctx, "/configurations", wire.ConfigurationCreateBody{Configuration: spec}, &out)
	return out.Configuration, err
}

// ReplaceConfiguration changes a group; values that are given replace all others. It returns when the databases that have the group have them.
func (c *Client) ReplaceConfiguration(ctx context.Context, id string, change wire.ConfigurationUpdate) error {
	return c.do(ctx, http.MethodPut, configurationPath(id), wire.ConfigurationUpdateBody{Configuration: change}, nil)
}

// MergeConfiguration sets some values of a group. It returns when the databases that have the group have them.
func (c *Client) MergeConfiguration(ctx context.Context, id string, values map[string]any) error {
	return c.do(ctx, http.MethodPatch, configurationPath(id), wire.ConfigurationUpdateBody{Configuration: wire.ConfigurationUpdate{Values: &values}}, nil)
}

// DeleteConfiguration removes a group that no instance has.
func (c *Client) DeleteConfiguration(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, configurationPath(id), nil, nil)
}

// ConfiguredInstances returns all instances that have a group.
func (c *Client) ConfiguredInstances(ctx context.Context, id string) ([]wire.ConfiguredInstance, error) {
	var all []wire.ConfiguredInstance
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.ConfiguredInstanceList
		err := c.do(ctx, http.MethodGet, configurationPath(id)+"/instances"+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Instances...)
		return out.Links, err
	})
	return all, err
}

// Drift returns the parameters that somebody changed in an instance's running database, past the API.
func (c *Client) Drift(ctx context.Context, instance string) ([]wire.Difference, error) {
	var out wire.DefaultConfigurationBody
	err := c.do(ctx, http.MethodGet, instancePath(instance, "configuration"), nil, &out)
	return out.Instance.Drift, err
}

// DefaultConfiguration returns what an instance's database has before a group is attached.
func (c *Client) DefaultConfiguration(ctx context.Context, instance string) (map[string]any, error) {
	var out wire.DefaultConfigurationBody
	err := c.do(ctx, http.MethodGet, instancePath(instance, "configuration"), nil, &out)
	return out.Instance.Configuration, err
}

// versionPath is below a datastore, or for a version's id alone where that is "".
func versionPath(datastore, version string) string {
	if datastore == "" {
		return "/datastores/versions/" + url.PathEscape(version)
	}
	return "/datastores/" + url.PathEscape(datastore) + "/versions/" + url.PathEscape(version)
}

// Parameters returns the parameters of a datastore version. With datastore "" version is an id.
func (c *Client) Parameters(ctx context.Context, datastore, version string) ([]wire.Parameter, error) {
	var out wire.ParameterList
	err := c.do(ctx, http.MethodGet, versionPath(datastore, version)+"/parameters", nil, &out)
	return out.Parameters, err
}

// Parameter returns one parameter of a datastore version.
func (c *Client) Parameter(ctx context.Context, datastore, version, name string) (wire.Parameter, error) {
	var out wire.Parameter
	err := c.do(ctx, http.MethodGet, versionPath(datastore, version)+"/parameters/"+url.PathEscape(name), nil, &out)
	return out, err
}

// CreateVersion makes a datastore version; it needs the role admin.
func (c *Client) CreateVersion(ctx context.Context, spec wire.VersionCreate) error {
	return c.create(ctx, "/mgmt/datastore-versions", wire.VersionCreateBody{Version: spec}, nil)
}

// UpdateVersion changes a datastore version; it needs the role admin.
func (c *Client) UpdateVersion(ctx context.Context, id string, change wire.VersionUpdate) error {
	return c.do(ctx, http.MethodPatch, "/mgmt/datastore-versions/"+url.PathEscape(id), change, nil)
}

// DeleteVersion removes a datastore version that nothing uses; it needs the role admin.
func (c *Client) DeleteVersion(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/mgmt/datastore-versions/"+url.PathEscape(id), nil, nil)
}
