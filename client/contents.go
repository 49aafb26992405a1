package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/trove-dbaas/trove/api/wire"
)

// Databases returns all databases of an instance.
func (c *Client) Databases(ctx context.Context, instance string) ([]wire.Database, error) {
	var all []wire.Database
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.DatabaseList
		err := c.do(ctx, http.MethodGet, instancePath(instance, "databases")+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Databases...)
		return out.Links, err
	})
	return all, err
}

// CreateDatabases makes databases.
func (c *Client) CreateDatabases(ctx context.Context, instance string, dbs ...wire.DatabaseCreate) error {
	return c.create(ctx, instancePath(instance, "databases"), wire.DatabaseCreateBody{Databases: dbs}, nil)
}

// DeleteDatabase removes a database with its contents.
func (c *Client) DeleteDatabase(ctx context.Context, instance, name string) error {
	return c.do(ctx, http.MethodDelete, instancePath(instance, "databases", segment(name)), nil, nil)
}

// segment escapes a name as one part of a path; a dot is escaped too, because Trove takes what follows it for a format.
func segment(name string) string { return strings.ReplaceAll(url.PathEscape(name), ".", "%2e") }

func userPath(instance, name, host string, more ...string) string {
	user := segment(name)
	if host != "" {
		user += "%40" + segment(host)
	}
	return instancePath(instance, append([]string{"users", user}, more...)...)
}

// Users returns all users of an instance.
func (c *Client) Users(ctx context.Context, instance string) ([]wire.User, error) {
	var all []wire.User
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.UserList
		err := c.do(ctx, http.MethodGet, instancePath(instance, "users")+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Users...)
		return out.Links, err
	})
	return all, err
}

// User returns one user; host "" is any.
func (c *Client) User(ctx context.Context, instance, name, host string) (wire.User, error) {
	var out wire.UserBody
	err := c.do(ctx, http.MethodGet, userPath(instance, name, host), nil, &out)
	return out.User, err
}

// CreateUsers makes users.
func (c *Client) CreateUsers(ctx context.Context, instance string, users ...wire.UserCreate) error {
	return c.create(ctx, instancePath(instance, "users"), wire.UserCreateBody{Users: users}, nil)
}

// UpdateUser changes name, host or password of a user.
func (c *Client) UpdateUser(ctx context.Context, instance, name, host string, change wire.UserUpdate) error {
	return c.do(ctx, http.MethodPut, userPath(instance, name, host), wire.UserUpdateBody{User: change}, nil)
}

// DeleteUser removes a user.
func (c *Client) DeleteUser(ctx context.Context, instance, name, host string) error {
	return c.do(ctx, http.MethodDelete, userPath(instance, name, host), nil, nil)
}

// UserAccess returns the databases that a user may use.
func (c *Client) UserAccess(ctx context.Context, instance, name, host string) ([]wire.Database, error) {
	var out wire.DatabaseNames
	err := c.do(ctx, http.MethodGet, userPath(instance, name, host, "databases"), nil, &out)
	return out.Databases, err
}

// GrantAccess lets a user use databases.
func (c *Client) GrantAccess(ctx context.Context, instance, name, host string, databases ...string) error {
	body := wire.DatabaseNames{Databases: []wire.Database{}}
	for _, d := range databases {
		body.Databases = append(body.Databases, wire.Database{Name: d})
	}
	return c.do(ctx, http.MethodPut, userPath(instance, name, host, "databases"), body, nil)
}

// RevokeAccess forbids a user a database.
func (c *Client) RevokeAccess(ctx context.Context, instance, name, host, database string) error {
	return c.do(ctx, http.MethodDelete, userPath(instance, name, host, "databases", segment(database)), nil, nil)
}

// RootEnabled reports whether the superuser may log in.
func (c *Client) RootEnabled(ctx context.Context, instance string) (bool, error) {
	var out wire.RootEnabled
	err := c.do(ctx, http.MethodGet, instancePath(instance, "root"), nil, &out)
	return out.RootEnabled, err
}

// EnableRoot lets the superuser log in and returns its name and password; password "" lets the server make one.
func (c *Client) EnableRoot(ctx context.Context, instance, password string) (wire.RootUser, error) {
	var out wire.RootBody
	err := c.create(ctx, instancePath(instance, "root"), wire.RootRequest{Password: password}, &out)
	return out.User, err
}

// DisableRoot forbids the superuser to log in.
func (c *Client) DisableRoot(ctx context.Context, instance string) error {
	return c.do(ctx, http.MethodDelete, instancePath(instance, "root"), nil, nil)
}

// Datastores returns all datastores with their versions.
func (c *Client) Datastores(ctx context.Context) ([]wire.Datastore, error) {
	var out wire.DatastoreList
	err := c.do(ctx, http.MethodGet, "/datastores", nil, &out)
	return out.Datastores, err
}

// Datastore returns one datastore by id or name.
func (c *Client) Datastore(ctx context.Context, idOrName string) (wire.Datastore, error) {
	var out wire.DatastoreBody
	err := c.do(ctx, http.MethodGet, "/datastores/"+url.PathEscape(idOrName), nil, &out)
	return out.Datastore, err
}

// DeleteDatastore removes a datastore that has no versions, by id or name; it needs the role admin.
func (c *Client) DeleteDatastore(ctx context.Context, idOrName string) error {
	return c.do(ctx, http.MethodDelete, "/datastores/"+url.PathEscape(idOrName), nil, nil)
}

// DatastoreVersion returns one version by the ids or names of datastore and version.
func (c *Client) DatastoreVersion(ctx context.Context, datastore, version string) (wire.DatastoreVersion, error) {
	var out wire.DatastoreVersionBody
	err := c.do(ctx, http.MethodGet, "/datastores/"+url.PathEscape(datastore)+"/versions/"+url.PathEscape(version), nil, &out)
	return out.Version, err
}

// Flavors returns all flavors.
func (c *Client) Flavors(ctx context.Context) ([]wire.Flavor, error) {
	var out wire.FlavorList
	err := c.do(ctx, http.MethodGet, "/flavors", nil, &out)
	return out.Flavors, err
}

// Flavor returns one flavor by id.
func (c *Client) Flavor(ctx context.Context, id string) (wire.Flavor, error) {
	var out wire.FlavorBody
	err := c.do(ctx, http.MethodGet, "/flavors/"+url.PathEscape(id), nil, &out)
	return out.Flavor, err
}

// Limits returns the absolute limits and the rates.
func (c *Client) Limits(ctx context.Context) ([]wire.Limit, error) {
	var out wire.Limits
	err := c.do(ctx, http.MethodGet, "/limits", nil, &out)
	return out.Limits, err
}

// Quotas returns the quotas of a project by its id.
func (c *Client) Quotas(ctx context.Context, project string) ([]wire.Quota, error) {
	var out wire.QuotaList
	err := c.do(ctx, http.MethodGet, "/mgmt/quotas/"+url.PathEscape(project), nil, &out)
	return out.Quotas, err
}

// SetQuotas changes limits of a project by resource; it needs the role admin.
func (c *Client) SetQuotas(ctx context.Context, project string, limits map[string]int) error {
	body := wire.QuotaUpdate{Quotas: map[string]*int{}}
	for name, limit := range limits {
		body.Quotas[name] = &limit
	}
	return c.do(ctx, http.MethodPut, "/mgmt/quotas/"+url.PathEscape(project), body, nil)
}

// ProjectID returns the id of the project that the client works in.
func (c *Client) ProjectID(ctx context.Context) (string, error) {
	s, err := c.authenticated(ctx, false)
	return s.Project, err
}
