package openstack

import (
	"context"
	"net/url"

	trove "github.com/trove-dbaas/trove"
)

// Ask makes a request to a service as the administrator of a project, for what has no function of its own here. Body and into may be nil.
func (c *Cloud) Ask(ctx context.Context, method, project, service, path string, body, into any) error {
	return c.ask(ctx, method, project, service, path, body, into)
}

// Project returns the id of one of Projects.
func (c *Cloud) Project(name string) string { return c.admin[name].project }

// Ports returns the name of each service of the catalogue by the port of its endpoint, which is how a proxy knows them.
func (c *Cloud) Ports() map[string]string {
	names := map[string]string{
		"compute": "Nova", "block-storage": "Cinder", "network": "Neutron", "image": "Glance", "object-store": "Swift", "key-manager": "Barbican",
		"identity": "Keystone", "placement": "Placement",
	}
	ports := map[string]string{}
	for kind, name := range names {
		if u, err := url.Parse(c.endpoints[kind+"/service"]); err == nil && u.Port() != "" {
			ports[u.Port()] = name
		}
	}
	if u, err := url.Parse(c.keystone); err == nil {
		ports[u.Port()] = "Keystone"
	}
	return ports
}

// Token logs somebody in.
func (c *Cloud) Token(ctx context.Context, user string, password trove.Secret, project string) (trove.Secret, error) {
	a, err := c.login(ctx, user, password, project)
	return a.token, err
}
