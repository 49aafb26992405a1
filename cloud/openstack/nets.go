package openstack

import (
	"context"
	"net/url"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
)

// network is a network as Neutron shows it.
type network struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Project  string   `json:"project_id"`
	MTU      int      `json:"mtu"`
	Shared   bool     `json:"shared"`
	External bool     `json:"router:external"`
	Subnets  []string `json:"subnets"`
}

// subnet is a range of addresses of a network.
type subnet struct {
	ID      string   `json:"id"`
	Network string   `json:"network_id"`
	CIDR    string   `json:"cidr"`
	Gateway *string  `json:"gateway_ip"`
	DNS     []string `json:"dns_nameservers"`
	Routes  []struct {
		To  string `json:"destination"`
		Via string `json:"nexthop"`
	} `json:"host_routes"`
}

// nets remembers for a while what networks, subnets and groups of the deployment look like: they change by hand and seldom, and each create needs them.
type nets struct {
	mu    sync.Mutex
	known map[string]remembered
}

type remembered struct {
	value any
	age   func() time.Duration
}

// recall returns what is remembered under a key, or asks and remembers the answer.
func recall[T any](n *nets, key string, ask func() (T, error)) (T, error) {
	n.mu.Lock()
	r, ok := n.known[key]
	n.mu.Unlock()
	if v, fits := r.value.(T); ok && fits && r.age() < cacheTime {
		return v, nil
	}
	v, err := ask()
	if err != nil {
		return v, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[string]remembered{}
	}
	for k, r := range n.known {
		if r.age() >= cacheTime {
			delete(n.known, k)
		}
	}
	n.known[key] = remembered{value: v, age: clock.Stopwatch()}
	return v, nil
}

// network finds a network of a name or an id; with a project only among that project's.
func (p *Provider) network(ctx context.Context, ref, project string) (network, error) {
	return recall(&p.nets, "network "+ref+" "+project, func() (network, error) {
		q := url.Values{"name": {ref}}
		if trove.ValidID(ref) {
			q = url.Values{"id": {ref}}
		}
		r := p.neutron("networks")
		r.query = q
		all, err := list[network](ctx, r, "networks")
		if err == nil && len(all) > 1 && project != "" { // of the same name elsewhere
			own := all[:0]
			for _, n := range all {
				if n.Project == project {
					own = append(own, n)
				}
			}
			all = own
		}
		if err != nil {
			return network{}, err
		}
		return one(all, "network", ref)
	})
}

// securityGroup finds a security group of the service project by name or id.
func (p *Provider) securityGroup(ctx context.Context, ref string) (string, error) {
	return recall(&p.nets, "group "+ref, func() (string, error) {
		q := url.Values{"name": {ref}, "project_id": {p.cfg.Session.ProjectID()}}
		if trove.ValidID(ref) {
			q = url.Values{"id": {ref}}
		}
		r := p.neutron("security-groups")
		r.query = q
		all, err := list[group](ctx, r, "security_groups")
		if err != nil {
			return "", err
		}
		g, err := one(all, "security group", ref)
		return g.ID, err
	})
}

// one returns the only thing of a list.
func one[T any](all []T, what, ref string) (T, error) {
	var none T
	switch len(all) {
	case 0:
		return none, trove.Errorf(trove.KindNotFound, "The %s %s cannot be found.", what, ref)
	case 1:
		return all[0], nil
	}
	return none, trove.Errorf(trove.KindUnavailable, "There are %d %ss of the name %s: name the right one by its id in the configuration.", len(all), what, ref)
}

// subnetsOf returns the subnets of a network, none for a network that is not there.
func (p *Provider) subnetsOf(ctx context.Context, network string) ([]subnet, error) {
	r := p.neutron("subnets")
	r.query = url.Values{"network_id": {network}}
	return list[subnet](ctx, r, "subnets")
}

// subnet returns a subnet.
func (p *Provider) subnet(ctx context.Context, id string) (subnet, error) {
	return recall(&p.nets, "subnet "+id, func() (subnet, error) {
		var body struct{ Subnet subnet }
		r := p.neutron("subnets", id)
		r.into = &body
		err := r.get(ctx)
		return body.Subnet, err
	})
}
