package bootstrap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Agents of Neutron that can bind a port on their host, as they call themselves.
const (
	AgentLinuxBridge = "Linux bridge agent"
	AgentOVS         = "Open vSwitch agent"
	AgentOVN         = "OVN Controller agent"
)

// PortName is the name of the port of a host's controller.
func PortName(group, host string) string { return group + "-" + host }

// port is the port of this host's controller, where one is to be made.
func (p *planner) port() {
	if p.w.Interface == "" {
		return
	}
	name := PortName(p.w.ControllerGroup, p.w.Host)
	at, why := p.controllers()
	if why != "" {
		p.add(PartPort, name, Refused, nil, "%s", why)
		return
	}
	if p.f.agent() == "" {
		p.add(PartPort, name, Refused, nil, "no agent of Neutron that binds ports lives on the host %s: run this on a host that has one, name the host as Neutron knows it with --host, or leave --interface out",
			p.w.Host)
		return
	}
	n := slices.IndexFunc(p.f.Ports, func(port Port) bool { return port.Name == name })
	if n < 0 {
		p.add(PartPort, name, Make, MakePort{Name: name, Group: p.w.ControllerGroup, Address: at[0], Host: p.w.Host}, "%s, bound by the %s of %s", at[0], p.f.agent(), p.w.Host)
		return
	}
	have := p.f.Ports[n]
	switch {
	case have.HostID != p.w.Host:
		p.add(PartPort, name, Change, ChangePort{ID: have.ID, Host: p.w.Host}, "it was bound on %q", have.HostID)
	case have.VIF == "binding_failed":
		p.add(PartPort, name, Yours, nil, "Neutron could not bind it on %s: its log says why", p.w.Host)
	default:
		p.add(PartPort, name, There, nil, "%s, %s", addressesOf(have), strings.ToLower(have.Status))
	}
}

func addressesOf(p Port) string {
	all := make([]string, 0, len(p.Addresses))
	for _, a := range p.Addresses {
		all = append(all, a.Address.String())
	}
	return strings.Join(all, ", ")
}

// agent returns the kind of agent on this host by which a port can be plugged, "" for none.
func (f Found) agent() string {
	for _, kind := range []string{AgentOVN, AgentOVS, AgentLinuxBridge} {
		if slices.Contains(f.Agents, kind) {
			return kind
		}
	}
	return ""
}

// reach is the way between this host and the guests.
func (p *planner) reach() {
	at, why := p.controllers()
	cidr, err := p.cidr()
	if why != "" || err != nil {
		return // it was said
	}
	p.guard(at)
	for _, c := range at {
		if n := slices.IndexFunc(p.f.Host.Addresses, func(a HostAddress) bool { return a.Prefix.Addr() == c }); n >= 0 {
			p.reached(cidr, c, p.f.Host.Addresses[n])
			return
		}
	}
	name := p.w.Interface
	if name == "" {
		p.add(PartInterface, at[0].String(), Yours, nil, "this host has no such address, and guests find the controller there. %s", strings.Join(p.commands(cidr, at[0]), "\n"))
		return
	}
	if slices.ContainsFunc(p.f.Host.Addresses, func(a HostAddress) bool { return a.Interface == name && !cidr.Contains(a.Prefix.Addr()) }) {
		p.add(PartInterface, name, Refused, nil, "this host has an interface of this name with other addresses: choose another name with --interface")
		return
	}
	p.add(PartInterface, name, Make, Plug{
		Port: PortName(p.w.ControllerGroup, p.w.Host), Interface: name, Agent: p.f.agent(), Bits: cidr.Bits(),
	}, "interface of this host with %s; it is gone after a restart of the machine, and made again by repeating this", at[0])
}

// guard is for hosts with bridges: guests of this host would reach all of its ports past their security group.
func (p *planner) guard(at []netip.Addr) {
	here := p.w.Interface != "" || slices.ContainsFunc(at, p.f.Host.has)
	if !here || !p.f.Host.Bridges && p.f.agent() != AgentLinuxBridge {
		return
	}
	if len(p.f.Networks) > 0 {
		if name := bridgeName(p.f.Networks[0].ID); slices.Contains(p.f.Host.Guarded, name) {
			p.add(PartInterface, name, There, nil, "nothing comes into this host by the bridge, past the security groups")
			return
		}
	}
	p.add(PartInterface, "bridge of "+p.w.Network, Change, Guard{}, "what guests of this host send to the bridge itself is dropped: it would pass no security group")
}

// reached looks whether an address of this host can be used between it and the guests.
func (p *planner) reached(cidr netip.Prefix, c netip.Addr, have HostAddress) {
	switch {
	case cidr.Contains(c) && have.Prefix.Bits() > cidr.Bits():
		p.add(PartInterface, have.Interface, Yours, nil, "%s has %s, and guests are in all of %s: ip addr replace %s/%d dev %s", have.Interface, have.Prefix, cidr, c, cidr.Bits(), have.Interface)
	case cidr.Contains(c):
		p.add(PartInterface, have.Interface, There, nil, "this host has %s on it", c)
	case !p.routed(c):
		p.add(PartInterface, have.Interface, Yours, nil, "%s is not in %s: say with --via which address of the subnet leads there", c, cidr)
	case !slices.ContainsFunc(p.f.Host.Routes, func(r netip.Prefix) bool { return r.Bits() > 0 && r.Bits() <= cidr.Bits() && r.Contains(cidr.Addr()) }):
		p.add(PartInterface, have.Interface, Yours, nil, "this host has no route to the guests: ip route add %s via ROUTER", cidr)
	default:
		p.add(PartInterface, have.Interface, There, nil, "this host has %s on it and a route to %s", c, cidr)
	}
}

// routed reports whether guests have a way to an address outside the subnet: the one that was asked for, or one that they are told already.
func (p *planner) routed(c netip.Addr) bool {
	return p.w.Via.IsValid() || len(p.f.Subnets) == 1 && slices.ContainsFunc(p.f.Subnets[0].Routes, func(r Route) bool {
		to, err := netip.ParsePrefix(r.Destination)
		return err == nil && to.Contains(c)
	})
}

// commands say how this host gets the address.
func (p *planner) commands(cidr netip.Prefix, at netip.Addr) []string {
	n := Network{Type: p.w.NetworkType, Physical: p.w.PhysicalNetwork, Segment: p.w.Segment}
	if len(p.f.Networks) > 0 {
		n = p.f.Networks[0]
	}
	address := fmt.Sprintf("%s/%d", at, cidr.Bits())
	switch {
	case !cidr.Contains(at):
		return []string{fmt.Sprintf("Give it %s, and a route:", at), fmt.Sprintf("    ip route add %s via ROUTER", cidr)}
	case n.Type == "flat":
		return []string{fmt.Sprintf("On the interface that is in the physical network %s:", n.Physical), "    ip addr add " + address + " dev INTERFACE"}
	case n.Type == "vlan" && n.Segment != 0:
		return []string{
			fmt.Sprintf("On the interface that is in the physical network %s:", n.Physical),
			fmt.Sprintf("    ip link add link INTERFACE name trove-m0 type vlan id %d", n.Segment),
			"    ip addr add " + address + " dev trove-m0", "    ip link set trove-m0 up",
		}
	}
	return []string{"On a host with an agent of Neutron, repeat this with:", "    --interface trove-m0"}
}
