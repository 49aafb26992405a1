package openstack

import "context"

// Ask makes a request to a service as the administrator of a project, for what has no function of its own here. Body and into may be nil.
func (c *Cloud) Ask(ctx context.Context, method, project, service, path string, body, into any) error {
	return c.ask(ctx, method, project, service, path, body, into)
}

// Project returns the id of one of Projects.
func (c *Cloud) Project(name string) string { return c.admin[name].project }
