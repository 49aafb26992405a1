package bootstrap

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A host with Neutron's Linux bridge agent has a bridge for each network, and the kernel answers on a bridge for every address that the host has. Frames that a guest
// of the same host sends to the bridge's own hardware address end in the host and pass no security group: with an address of the host in the network, guests
// would reach every port of it. Nothing that is meant for the host comes in by such a bridge, so all of it is dropped there; what is meant for
// the controller comes by the controller's own interface, through its port.

// bridgePrefix is how the agent calls the bridge of a network, followed by the beginning of the network's id.
const bridgePrefix = "brq"

// bridgeName returns the name of the bridge of a network.
func bridgeName(network string) string { return bridgePrefix + network[:min(11, len(network))] }

// guardTable is the name of our tables of nftables.
const guardTable = "trove_openstack"

// guarded returns the bridges from which nothing comes into this host, and whether this host has such bridges at all.
func guarded() (bridges []string, any bool, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, false, fmt.Errorf("list the interfaces of this host: %w", err)
	}
	for _, l := range links {
		any = any || l.Type() == "bridge" && strings.HasPrefix(l.Attrs().Name, bridgePrefix)
	}
	if !any {
		return nil, false, nil
	}
	c, err := nftables.New()
	if err != nil {
		return nil, true, fmt.Errorf("look at the packet filter of this host: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyARP)
	if err != nil {
		return nil, true, fmt.Errorf("look at the packet filter of this host: %w", err)
	}
	for _, chain := range chains { // both families are written together
		if chain.Table.Name == guardTable {
			bridges = append(bridges, chain.Name)
		}
	}
	return bridges, true, nil
}

// arpInput is the hook of ARP that is meant for this host: the family counts its hooks in its own way.
const arpInput = 0

// guard drops what comes into this host, or would be forwarded by it, from a bridge. It may be repeated.
func guard(bridge string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open the packet filter of this host: %w", err)
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, bridge)
	from := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name}}
	// Frames within the bridge go through the hook, too, where the kernel filters bridged packets as Neutron has it do.
	elsewhere := []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name}}
	drop := []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
	for _, g := range []struct {
		family nftables.TableFamily
		chain  string
		hook   *nftables.ChainHook
		match  []expr.Any
	}{
		{nftables.TableFamilyINet, bridge, nftables.ChainHookInput, from},
		{nftables.TableFamilyINet, bridge + "-forward", nftables.ChainHookForward, slices.Concat(from, elsewhere)},
		{nftables.TableFamilyARP, bridge, nftables.ChainHookRef(arpInput), from},
	} {
		t := c.AddTable(&nftables.Table{Family: g.family, Name: guardTable})
		chain := c.AddChain(&nftables.Chain{
			Name: g.chain, Table: t, Type: nftables.ChainTypeFilter, Hooknum: g.hook, Priority: nftables.ChainPriorityRef(-200),
		})
		c.FlushChain(chain)
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(g.match, drop)})
	}
	return wrap(c.Flush(), "write the packet filter of this host")
}
