package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/execx"
)

// Machine is the network of the machine that this program runs on. What is made in it is gone after a restart; File remembers it, so that Restore makes it again.
type Machine struct{ File string }

// Network returns the addresses and routes of IPv4.
func (Machine) Network(context.Context) (HostNet, error) {
	var h HostNet
	links, err := netlink.LinkList()
	if err != nil {
		return h, fmt.Errorf("list the interfaces of this host: %w", err)
	}
	for _, l := range links {
		addresses, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return h, fmt.Errorf("list the addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addresses {
			if p, ok := prefix(a.IPNet); ok {
				h.Addresses = append(h.Addresses, HostAddress{Interface: l.Attrs().Name, Prefix: p})
			}
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return h, fmt.Errorf("list the routes of this host: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefix(r.Dst); ok && p.Bits() > 0 {
			h.Routes = append(h.Routes, p.Masked())
		}
	}
	h.Guarded, h.Bridges, err = guarded()
	return h, err
}

// Guard drops what comes into this host by the bridge of a network.
func (m Machine) Guard(_ context.Context, bridge string) error {
	if err := guard(bridge); err != nil {
		return err
	}
	return m.remember(func(h *handmade) {
		if !slices.Contains(h.Guards, bridge) {
			h.Guards = append(h.Guards, bridge)
		}
	})
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), true
}

// tapName is what the Linux bridge agent looks for: it puts such an interface into the bridge of the port's network.
func tapName(port string) string { return "tap" + port[:min(11, len(port))] }

// Plug makes an interface with the port's hardware address and address, connected to where the agent finds it. It may be repeated.
func (m Machine) Plug(ctx context.Context, agent, name string, p Port, mtu int, address netip.Prefix) error {
	if err := plug(ctx, agent, name, p, mtu, address); err != nil {
		return err
	}
	return m.remember(func(h *handmade) {
		h.Interfaces = slices.DeleteFunc(h.Interfaces, func(i handmadeInterface) bool { return i.Name == name })
		h.Interfaces = append(h.Interfaces, handmadeInterface{Agent: agent, Name: name, Port: p.ID, MAC: p.MAC, MTU: mtu, Address: address})
	})
}

func plug(ctx context.Context, agent, name string, p Port, mtu int, address netip.Prefix) error {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return fmt.Errorf("the hardware address of the port: %w", err)
	}
	switch agent {
	case AgentLinuxBridge:
		err = plugBridge(name, tapName(p.ID), mac, mtu)
	case AgentOVS, AgentOVN:
		err = plugSwitch(ctx, name, p)
	default:
		err = trove.Errorf(trove.KindNotImplemented, "How a port is plugged by the %q is not known.", agent)
	}
	if err != nil {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", name, err)
	}
	if mtu > 0 {
		err = netlink.LinkSetMTU(l, mtu)
	}
	return errors.Join(
		wrap(err, "set the MTU of "+name),
		wrap(netlink.LinkSetHardwareAddr(l, mac), "set the hardware address of "+name),
		wrap(netlink.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}}), "set the address of "+name),
		wrap(netlink.LinkSetUp(l), "set "+name+" up"))
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// plugBridge makes a pair of interfaces: one is the host's, the other is found by the agent, by its name.
func plugBridge(name, tap string, mac net.HardwareAddr, mtu int) error {
	if _, err := netlink.LinkByName(tap); err != nil {
		if l, err := netlink.LinkByName(name); err == nil { // of a port that is gone
			if l.Type() != "veth" {
				return trove.Errorf(trove.KindConflict, "This host has an interface %s that was not made here.", name)
			}
			if err := netlink.LinkDel(l); err != nil {
				return fmt.Errorf("remove the interface %s of a former port: %w", name, err)
			}
		}
		pair := netlink.NewLinkAttrs()
		pair.Name, pair.HardwareAddr, pair.MTU = name, mac, mtu
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: pair, PeerName: tap}); err != nil {
			return fmt.Errorf("make the interface %s: %w", name, err)
		}
	}
	l, err := netlink.LinkByName(tap)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", tap, err)
	}
	return wrap(netlink.LinkSetUp(l), "set "+tap+" up")
}

// plugSwitch makes an internal interface of the integration bridge with the port's id, by which the agent, or OVN, finds it.
func plugSwitch(ctx context.Context, name string, p Port) error {
	_, err := execx.Run(ctx, execx.Cmd{Path: "ovs-vsctl", Args: []string{
		"--may-exist", "add-port", "br-int", name, "--", "set", "Interface", name, "type=internal",
		"external_ids:iface-id=" + p.ID, "external_ids:iface-status=active", "external_ids:attached-mac=" + p.MAC,
	}})
	return wrap(err, "connect "+name+" to br-int")
}
