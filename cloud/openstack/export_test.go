package openstack

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// HardwareAddress is that of the n-th port of an instance.
func HardwareAddress(instance string, n int) string { return mac(portName(instance, n)) }

// Rules returns the rules that are in force for an instance, as the port has them.
func (p *Provider) Rules(ctx context.Context, instance string) (access trove.Access, open []int, err error) {
	groups, err := p.groups(ctx, instance)
	if err != nil || len(groups) == 0 {
		return access, nil, err
	}
	for _, g := range groups[0].Rules {
		if g.Direction != "ingress" {
			continue
		}
		r, ok := g.rule()
		if !ok {
			return access, []int{-1}, nil
		}
		if !slices.Contains(open, r.Port) {
			open = append(open, r.Port)
		}
		if r.From != "" && !slices.Contains(access.AllowedCIDRs, r.From) {
			access.AllowedCIDRs = append(access.AllowedCIDRs, r.From)
		}
	}
	slices.Sort(open)
	slices.Sort(access.AllowedCIDRs)
	return access, open, nil
}

// Leftovers returns everything of the deployment that OpenStack has, by kind and name.
func (p *Provider) Leftovers(ctx context.Context) (all []string, err error) {
	filter, err := json.Marshal(map[string]string{keyDeployment: p.cfg.Deployment})
	if err != nil {
		return nil, err
	}
	tags := url.Values{"tags": {p.deploymentTag()}}
	for _, kind := range []struct {
		key string
		r   request
	}{
		{"servers", request{of: p.cfg.Session.Compute, path: []string{"servers", "detail"}, query: tags, microversion: microRead}},
		{"volumes", request{of: p.cfg.Session.Volume, path: []string{"volumes", "detail"}, query: url.Values{"metadata": {string(filter)}}}},
		{"ports", request{of: p.cfg.Session.Network, path: []string{"ports"}, query: tags}},
		{"security_groups", request{of: p.cfg.Session.Network, path: []string{"security-groups"}, query: tags}},
		{"floatingips", request{of: p.cfg.Session.Network, path: []string{"floatingips"}, query: tags}},
	} {
		found, err := list[struct{ ID, Name string }](ctx, kind.r, kind.key)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			all = append(all, kind.key+" "+f.Name+" "+f.ID)
		}
	}
	groups, err := p.serverGroups(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if strings.HasPrefix(g.Name, nameOf("")) {
			all = append(all, "server_groups "+g.Name+" "+g.ID)
		}
	}
	slices.Sort(all)
	return all, nil
}
