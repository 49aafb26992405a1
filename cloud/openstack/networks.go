package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// maxNICs bounds the networks of an instance.
const maxNICs = 8

// clashes is how often EnsureNetwork begins again because somebody else made a part at the same moment.
const clashes = 4

// EnsureNetwork is cloud.Networks.EnsureNetwork. The management port comes last: a network that has it is whole.
func (p *Provider) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	if err := checkID(s.Instance); err != nil {
		return cloud.Network{}, err
	}
	rules, err := wantedRules(s)
	if err != nil {
		return cloud.Network{}, err
	}
	if s.Access.IsPublic {
		if err := p.PublicAccess(ctx); err != nil {
			return cloud.Network{}, err
		}
	}
	defer p.lock(s.Instance)()
	var ports []port
	for range clashes {
		if ports, err = p.makeNetwork(ctx, s, rules); !clash(err) {
			break
		}
	}
	if err != nil {
		return cloud.Network{}, passing(err)
	}
	var public []floatingIP
	if s.Access.IsPublic {
		if public, err = p.floating(ctx, s.Instance); err != nil {
			return cloud.Network{}, err
		}
	}
	slices.SortFunc(ports, inOrder)
	return networkOf(s.Instance, ports, public), nil
}

// clash reports whether something is there already: of two who make it at the same moment Neutron lets one.
func clash(err error) bool {
	a, ok := osclient.AnswerOf(err)
	return ok && slices.Contains([]string{"MacAddressInUse", "SecurityGroupRuleExists", "FloatingIPPortAlreadyAssociated"}, a.Type)
}

// makeNetwork makes what is missing and returns all ports.
func (p *Provider) makeNetwork(ctx context.Context, s cloud.NetworkSpec, rules []rule) ([]port, error) {
	there, err := p.ports(ctx, s.Instance)
	if err != nil {
		return nil, err
	}
	fresh := len(there) == 0
	nics, err := p.nics(ctx, s, there)
	if err != nil {
		return nil, err
	}
	group, surplus, err := p.ensureGroup(ctx, s, rules)
	if err != nil {
		return nil, err
	}
	var told []machinedata.Interface
	if !fresh && !whole(s.Instance, len(nics), there) {
		if told, err = p.interfacesOf(ctx, s.Instance); err != nil {
			return nil, err
		}
	}
	for n, nic := range nics {
		name := portName(s.Instance, n)
		if at := indexOf(there, name); at >= 0 {
			if err := p.tagged(ctx, s, "ports", there[at].ID, there[at].Tags); err != nil {
				return nil, err
			}
			if err := p.grouped(ctx, &there[at], group); err != nil {
				return nil, err
			}
			continue
		}
		made, err := p.makeAgain(ctx, s, name, nic, group, told, there)
		if err != nil {
			return nil, p.portRefused(err, nic)
		}
		there = append(there, made)
	}
	if !fresh { // while ports are made another may still see one group alone, and not the one that counts
		if err := p.dropGroups(ctx, s.Instance, surplus); err != nil {
			return nil, err
		}
	}
	if s.Access.IsPublic || !fresh { // a floating address comes after the first port, and goes before the last
		if err := p.ensureFloating(ctx, s, there); err != nil {
			return nil, err
		}
	}
	return p.ensureManagement(ctx, s, told, there)
}

// whole reports whether all ports of an instance are there.
func whole(instance string, nics int, there []port) bool {
	for n := range nics {
		if indexOf(there, portName(instance, n)) < 0 {
			return false
		}
	}
	return indexOf(there, managementPort(instance)) >= 0
}

// nics returns what the instance shall be attached to. The network that it has counts where none was named: the default may have changed since.
func (p *Provider) nics(ctx context.Context, s cloud.NetworkSpec, there []port) ([]trove.NIC, error) {
	if len(s.NICs) > maxNICs {
		return nil, bad("An instance can be attached to %d networks at most.", maxNICs)
	}
	nics := slices.Clone(s.NICs)
	if len(nics) == 0 {
		nic := trove.NIC{}
		if at := indexOf(there, portName(s.Instance, 0)); at >= 0 {
			nic.NetworkID = there[at].Network
		} else {
			id, err := p.NetworkOf(ctx, cloud.Rights{Project: s.Project})
			if err != nil {
				return nil, err
			}
			nic.NetworkID = id
		}
		nics = append(nics, nic)
	}
	for n, nic := range nics {
		if indexOf(there, portName(s.Instance, n)) >= 0 {
			continue
		}
		if err := p.checkNIC(ctx, nic); err != nil {
			return nil, err
		}
	}
	return nics, nil
}

// checkNIC refuses before anything is made what Neutron would refuse in the middle.
func (p *Provider) checkNIC(ctx context.Context, nic trove.NIC) error {
	if !trove.ValidID(nic.NetworkID) {
		return bad("Network %s cannot be found.", nic.NetworkID)
	}
	subnets, err := p.subnetsOf(ctx, nic.NetworkID)
	if err != nil {
		return err
	}
	if len(subnets) == 0 {
		return bad("Network %s cannot be found, or has no subnet.", nic.NetworkID)
	}
	if nic.SubnetID != "" && !slices.ContainsFunc(subnets, func(s subnet) bool { return s.ID == nic.SubnetID }) {
		return bad("Subnet %s not found in the network %s.", nic.SubnetID, nic.NetworkID)
	}
	if nic.IPAddress == "" {
		return nil
	}
	ip, err := netip.ParseAddr(nic.IPAddress)
	if err != nil {
		return bad("%q is not an address.", nic.IPAddress)
	}
	for _, s := range subnets {
		if prefix, err := netip.ParsePrefix(s.CIDR); err == nil && prefix.Contains(ip) && (nic.SubnetID == "" || nic.SubnetID == s.ID) {
			return nil
		}
	}
	return bad("The address %s is in no subnet of the network %s.", ip, nic.NetworkID)
}

// portRefused says what is wrong with a port that was not made.
func (p *Provider) portRefused(err error, nic trove.NIC) error {
	if addressTaken(err) {
		return trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "The address %s is in use.", nic.IPAddress))
	}
	if clash(err) {
		return err
	}
	return asBad(err)
}

// addressTaken reports whether Neutron refuses an address because another port has it. What hands out addresses there says it in another way than what did so before.
func addressTaken(err error) bool {
	a, ok := osclient.AnswerOf(err)
	return ok && (a.Type == "IpAddressAlreadyAllocated" || a.Type == "IpAddressInUse")
}

// FindNetwork is cloud.Networks.FindNetwork.
func (p *Provider) FindNetwork(ctx context.Context, instance string) (cloud.Network, error) {
	if err := checkID(instance); err != nil {
		return cloud.Network{}, err
	}
	return p.findNetwork(ctx, instance)
}

func (p *Provider) findNetwork(ctx context.Context, instance string) (cloud.Network, error) {
	ports, err := p.ports(ctx, instance)
	if err != nil {
		return cloud.Network{}, err
	}
	if len(ports) == 0 {
		return cloud.Network{}, trove.Errorf(trove.KindNotFound, "Instance %s has no ports.", instance)
	}
	floating, err := p.floating(ctx, instance)
	if err != nil {
		return cloud.Network{}, err
	}
	return networkOf(instance, ports, floating), nil
}

// networkOf puts ports and floating addresses together.
func networkOf(instance string, ports []port, floating []floatingIP) cloud.Network {
	n := cloud.Network{ID: ports[0].ID, Instance: instance}
	for i := range ports {
		if ports[i].Name == managementPort(instance) {
			n.ID, n.Ready = ports[i].ID, true
			continue
		}
		for _, ip := range ports[i].IPs {
			n.Addresses = append(n.Addresses, trove.Address{Address: ip.Address, Type: "private", Network: ports[i].Network})
		}
	}
	for _, f := range floating {
		n.Addresses = append(n.Addresses, trove.Address{Address: f.Address, Type: "public"})
	}
	return n
}

// RemoveNetwork is cloud.Networks.RemoveNetwork.
func (p *Provider) RemoveNetwork(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	defer p.lock(instance)()
	floating, err := p.floating(ctx, instance)
	if err != nil {
		return err
	}
	for _, f := range floating {
		if err := p.neutron("floatingips", f.ID).remove(ctx); err != nil {
			return passing(err)
		}
	}
	ports, err := p.ports(ctx, instance)
	if err != nil {
		return err
	}
	// The management port goes last, as it came last: what is half removed is not taken for whole.
	slices.SortFunc(ports, func(a, b port) int {
		return cmp.Or(boolean(a.Name == managementPort(instance))-boolean(b.Name == managementPort(instance)), strings.Compare(a.ID, b.ID))
	})
	for i := range ports {
		if err := p.neutron("ports", ports[i].ID).remove(ctx); err != nil {
			return passing(err)
		}
	}
	return p.removeGroups(ctx, instance)
}

// removeGroups removes the security groups of an instance, which no port may have any more.
func (p *Provider) removeGroups(ctx context.Context, instance string) error {
	groups, err := p.groups(ctx, instance)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := p.neutron("security-groups", g.ID).remove(ctx); err != nil {
			return passing(err)
		}
	}
	return nil
}

func portName(instance string, n int) string { return nameOf(instance) + "-" + strconv.Itoa(n) }

func managementPort(instance string) string { return nameOf(instance) + "-management" }
