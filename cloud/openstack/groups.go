package openstack

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// rule lets somebody in at a TCP port.
type rule struct {
	Family string // IPv4 or IPv6
	Port   int
	From   string // a prefix, "" for everybody
}

// wantedRules are the rules of a specification, or what is wrong with it.
func wantedRules(s cloud.NetworkSpec) ([]rule, error) {
	from := map[rule]bool{}
	for _, text := range s.Access.AllowedCIDRs {
		r, ok := parseRange(text)
		if !ok {
			return nil, bad("%q is not an address range in CIDR form.", text)
		}
		from[r] = true
	}
	if len(from) == 0 {
		from[rule{Family: "IPv4"}], from[rule{Family: "IPv6"}] = true, true
	}
	var all []rule
	for _, port := range s.TCPPorts {
		if port < 1 || port > 65535 {
			return nil, bad("%d is not a TCP port.", port)
		}
		for r := range from {
			r.Port = port
			all = append(all, r)
		}
	}
	return all, nil
}

// parseRange reads a range, or an address that stands for itself.
func parseRange(text string) (rule, bool) {
	p, err := netip.ParsePrefix(text)
	if ip, bad := netip.ParseAddr(text); bad == nil {
		p, err = ip.Prefix(ip.BitLen())
	}
	if err != nil || p.Addr().Zone() != "" {
		return rule{}, false
	}
	r := rule{Family: "IPv6", From: p.Masked().String()}
	if p.Addr().Is4() {
		r.Family = "IPv4"
	}
	if p.Bits() == 0 {
		r.From = ""
	}
	return r, true
}

// group is a security group as Neutron shows it.
type group struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"`
	Tags  []string    `json:"tags"`
	Made  stamp       `json:"created_at"`
	Rules []groupRule `json:"security_group_rules"`
}

type groupRule struct {
	ID        string  `json:"id"`
	Direction string  `json:"direction"`
	Family    string  `json:"ethertype"`
	Protocol  *string `json:"protocol"`
	Min       *int    `json:"port_range_min"`
	Max       *int    `json:"port_range_max"`
	From      *string `json:"remote_ip_prefix"`
}

// rule is the rule in our words, false if it is none of ours.
func (g groupRule) rule() (rule, bool) {
	if g.Protocol == nil || *g.Protocol != "tcp" || g.Min == nil || g.Max == nil || *g.Min != *g.Max {
		return rule{}, false
	}
	r := rule{Family: g.Family, Port: *g.Min}
	if g.From != nil {
		from, ok := parseRange(*g.From)
		if !ok {
			return rule{}, false
		}
		r.From = from.From
	}
	return r, true
}

// groups returns the instance's security groups, the one that counts first.
func (p *Provider) groups(ctx context.Context, instance string) ([]group, error) {
	r := p.neutron("security-groups")
	r.query = url.Values{"name": {nameOf(instance)}, "project_id": {p.cfg.Session.ProjectID()}}
	all, err := list[group](ctx, r, "security_groups")
	slices.SortFunc(all, func(a, b group) int {
		if a.Made.before(b.Made) {
			return -1
		}
		if b.Made.before(a.Made) {
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, err
}

// ensureGroup makes the security group with these rules and returns its id, and other groups of the name. What is to be let in is added before anything is taken away.
func (p *Provider) ensureGroup(ctx context.Context, s cloud.NetworkSpec, want []rule) (id string, surplus []group, err error) {
	all, err := p.groups(ctx, s.Instance)
	if err != nil {
		return "", nil, err
	}
	if len(all) == 0 {
		if all, err = p.makeGroup(ctx, s); err != nil {
			return "", nil, err
		}
	}
	g := all[0]
	if err := p.tagged(ctx, s, "security-groups", g.ID, g.Tags); err != nil {
		return "", nil, err
	}
	return g.ID, all[1:], p.ensureRules(ctx, g, want)
}

// ensureRules makes a group let in those of the rules, and nobody else.
func (p *Provider) ensureRules(ctx context.Context, g group, want []rule) error {
	have := map[rule]bool{}
	var surplus []string
	for _, r := range g.Rules {
		if r.Direction != "ingress" {
			continue
		}
		known, ok := r.rule()
		if ok && slices.Contains(want, known) && !have[known] {
			have[known] = true
			continue
		}
		surplus = append(surplus, r.ID)
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(r rule) bool { return have[r] })
	if err := p.addRules(ctx, g.ID, missing); err != nil {
		return asBad(err)
	}
	for _, id := range surplus {
		if err := p.neutron("security-group-rules", id).remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// dropGroups removes groups that no port of the instance has any more. One that something else has stays, until the instance goes.
func (p *Provider) dropGroups(ctx context.Context, instance string, surplus []group) error {
	for _, g := range surplus {
		p.cfg.Log.WarnContext(ctx, "surplus security group is removed", "instance", instance, "group", g.ID)
		if err := p.neutron("security-groups", g.ID).remove(ctx); err != nil && trove.KindOf(err) != trove.KindConflict {
			return err
		}
	}
	return nil
}

func (p *Provider) makeGroup(ctx context.Context, s cloud.NetworkSpec) ([]group, error) {
	r := p.neutron("security-groups")
	r.body = object{"security_group": object{"name": nameOf(s.Instance), "description": described(s.Instance)}}
	if err := r.post(ctx); err != nil {
		return nil, err
	}
	all, err := p.groups(ctx, s.Instance)
	if err == nil && len(all) == 0 {
		err = trove.Errorf(trove.KindUnavailable, "Neutron does not show the security group that it has just made.")
	}
	return all, err
}

// addRules adds rules in one request. Where somebody has added one of them at this moment, which fails all, it is one by one.
func (p *Provider) addRules(ctx context.Context, group string, all []rule) error {
	if len(all) == 0 {
		return nil
	}
	err := p.postRules(ctx, group, all...)
	if !clash(err) {
		return err
	}
	for _, r := range all {
		if err := p.postRules(ctx, group, r); err != nil && !clash(err) {
			return err
		}
	}
	return nil
}

func (p *Provider) postRules(ctx context.Context, group string, rules ...rule) error {
	all := make([]object, 0, len(rules))
	for _, r := range rules {
		o := object{
			"security_group_id": group, "direction": "ingress", "ethertype": r.Family, "protocol": "tcp", "port_range_min": r.Port, "port_range_max": r.Port,
		}
		if r.From != "" {
			o["remote_ip_prefix"] = r.From
		}
		all = append(all, o)
	}
	q := p.neutron("security-group-rules")
	q.body = object{"security_group_rules": all}
	return q.post(ctx)
}
