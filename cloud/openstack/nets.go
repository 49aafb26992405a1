package openstack

import (
	"context"
	"maps"
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
	Mode    string   `json:"ipv6_address_mode"`
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

// network finds a network by its id, or by a name. Anybody may give a network of his own any name, and we see the networks of all: of a name it is the service
// project's own, else one that is shared with all or external, else one of the project, if there is a project. More narrows what is asked for.
func (p *Provider) network(ctx context.Context, ref, project string, more url.Values) (network, error) {
	return recall(&p.nets, "network "+ref+" "+project+" "+more.Encode(), func() (network, error) {
		q := url.Values{"id": {ref}}
		named := !trove.ValidID(ref)
		if named {
			q = url.Values{"name": {ref}}
			maps.Copy(q, more)
		}
		r := p.neutron("networks")
		r.query = q
		all, err := list[network](ctx, r, "networks")
		if err != nil {
			return network{}, err
		}
		if !named || len(all) == 0 {
			return one(all, "network", ref)
		}
		trusted := p.trusted(all, project)
		if len(trusted) == 0 {
			return network{}, trove.Errorf(trove.KindNotFound,
				"The network %s cannot be found: one of this name is another project's and not shared. An operator who means it names it by its id in the configuration.", ref)
		}
		return one(trusted, "network", ref)
	})
}

// trusted returns those of networks of one name that the name stands for.
func (p *Provider) trusted(all []network, project string) (some []network) {
	for _, fits := range []func(network) bool{
		func(n network) bool { return n.Project == p.cfg.Session.ProjectID() },
		func(n network) bool { return n.Shared || n.External },
		func(n network) bool { return n.Project == project },
	} {
		for _, n := range all {
			if fits(n) {
				some = append(some, n)
			}
		}
		if len(some) > 0 {
			break
		}
	}
	return some
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
