package fake

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// EnsureNetwork is cloud.Networks.EnsureNetwork.
func (c *Cloud) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	return call(ctx, c, "EnsureNetwork", &s.Instance, func() (cloud.Network, after, error) {
		if err := checkRules(s); err != nil {
			return cloud.Network{}, nil, err
		}
		s.NICs, s.TCPPorts = slices.Clone(s.NICs), slices.Clone(s.TCPPorts)
		s.Access.AllowedCIDRs = slices.Clone(s.Access.AllowedCIDRs)
		if n, ok := c.networks[s.Instance]; ok {
			n.look()
			n.spec.Access, n.spec.TCPPorts = s.Access, s.TCPPorts
			return n.copy(), nil, nil
		}
		addresses, err := c.attach(s.NICs)
		if err != nil {
			return cloud.Network{}, nil, err
		}
		n := &network{spec: s, looks: c.opt.Looks, Network: cloud.Network{
			ID: c.nextID(), Instance: s.Instance, Ready: c.opt.Looks == 0, Addresses: addresses,
		}}
		c.networks[s.Instance] = n
		return n.copy(), nil, nil
	})
}

func checkRules(s cloud.NetworkSpec) error {
	for _, text := range s.Access.AllowedCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			return bad("%q is not an address range in CIDR form.", text)
		}
	}
	for _, p := range s.TCPPorts {
		if p < 1 || p > 65535 {
			return bad("%d is not a TCP port.", p)
		}
	}
	return nil
}

// attach chooses the addresses for the NICs, or for the default network without any.
func (c *Cloud) attach(nics []trove.NIC) ([]trove.Address, error) {
	if len(nics) == 0 {
		nics = []trove.NIC{{NetworkID: c.opt.Networks[0].ID}}
	}
	var all []trove.Address
	for _, nic := range nics {
		i := slices.IndexFunc(c.opt.Networks, func(n cloud.TenantNetwork) bool { return n.ID == nic.NetworkID })
		if i < 0 || len(c.opt.Networks[i].Subnets) == 0 {
			return nil, bad("Network %s cannot be found.", nic.NetworkID)
		}
		subnet, err := netip.ParsePrefix(c.opt.Networks[i].Subnets[0].CIDR)
		if err != nil {
			return nil, bad("Network %s has no usable subnet.", nic.NetworkID)
		}
		ip, err := c.choose(nic, subnet)
		if err != nil {
			return nil, err
		}
		all = append(all, trove.Address{Address: ip.String(), Type: "private", Network: nic.NetworkID})
	}
	return all, nil
}

// choose returns the address that the NIC asks for, if it can be had, or the next free one.
func (c *Cloud) choose(nic trove.NIC, subnet netip.Prefix) (netip.Addr, error) {
	if nic.IPAddress == "" {
		return c.nextAddress(subnet)
	}
	ip, err := netip.ParseAddr(nic.IPAddress)
	if err != nil || !subnet.Contains(ip) {
		return netip.Addr{}, bad("%q is not an address of the network %s.", nic.IPAddress, subnet)
	}
	for _, n := range c.networks {
		for _, a := range n.Addresses {
			if a.Address == ip.String() {
				return netip.Addr{}, bad("The address %s is in use.", ip)
			}
		}
	}
	return ip, nil
}

// look counts one look at a network that may be pending.
func (n *network) look() {
	if n.Ready {
		return
	}
	if n.looks--; n.looks <= 0 {
		n.Ready = true
	}
}

// copy returns what callers may keep.
func (n *network) copy() cloud.Network {
	out := n.Network
	out.Addresses = slices.Clone(out.Addresses)
	return out
}

// FindNetwork is cloud.Networks.FindNetwork.
func (c *Cloud) FindNetwork(ctx context.Context, instance string) (cloud.Network, error) {
	return call(ctx, c, "FindNetwork", &instance, func() (cloud.Network, after, error) {
		n, ok := c.networks[instance]
		if !ok {
			return cloud.Network{}, nil, trove.Errorf(trove.KindNotFound, "Instance %s has no network.", instance)
		}
		n.look()
		return n.copy(), nil, nil
	})
}

// RemoveNetwork is cloud.Networks.RemoveNetwork.
func (c *Cloud) RemoveNetwork(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "RemoveNetwork", &instance, func() (struct{}, after, error) {
		delete(c.networks, instance)
		return struct{}{}, nil, nil
	})
	return err
}

// Networks is cloud.Networks.Networks, sorted by instance.
func (c *Cloud) Networks(ctx context.Context) ([]cloud.Network, error) {
	return call(ctx, c, "Networks", nil, func() ([]cloud.Network, after, error) {
		all := make([]cloud.Network, 0, len(c.networks))
		for _, n := range c.networks {
			all = append(all, n.copy())
		}
		slices.SortFunc(all, func(a, b cloud.Network) int { return strings.Compare(a.Instance, b.Instance) })
		return all, nil, nil
	})
}
