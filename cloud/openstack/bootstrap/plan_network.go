package bootstrap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// network is the management network.
func (p *planner) network() {
	w := p.w
	if p.several(PartNetwork, w.Network, len(p.f.Networks), "--network") {
		return
	}
	if len(p.f.Networks) == 0 && len(p.f.Others) > 0 {
		p.add(PartNetwork, w.Network, Refused, nil, "the network of this name is of the project %s, and guests of the service would be in it: name it by its id (%s) if it is meant, or take another --network",
			p.f.Others[0].ProjectID, p.f.Others[0].ID)
		return
	}
	if len(p.f.Networks) == 0 {
		want := Network{Name: w.Network, Description: Mark, Up: true, Type: w.NetworkType, Physical: w.PhysicalNetwork, Segment: w.Segment}
		p.add(PartNetwork, w.Network, Make, MakeNetwork{want}, "%s, of the project %s alone", describeNetwork(want), w.Project)
		return
	}
	have := p.f.Networks[0]
	if diff := fixedDifference(w, have); diff != "" {
		p.add(PartNetwork, w.Network, Refused, nil, "it is %s, and %s is wanted, which cannot be changed: take another --network, or leave the option out", describeNetwork(have), diff)
		return
	}
	var wrong []string
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{!have.Up, "it is down"},
		{have.Shared, "every project can attach machines to it"},
		{have.Security != nil && !*have.Security, "its ports have no security groups"},
	} {
		if c.bad {
			wrong = append(wrong, c.what)
		}
	}
	switch {
	case len(wrong) == 0:
		p.add(PartNetwork, w.Network, There, nil, "%s", describeNetwork(have))
	case have.Description == Mark:
		p.add(PartNetwork, w.Network, Change, ChangeNetwork{ID: have.ID, Security: have.Security != nil}, "%s; that is mended", strings.Join(wrong, ", "))
	default:
		p.add(PartNetwork, w.Network, Yours, nil, "it was not made here and is left as it is: %s", strings.Join(wrong, ", "))
	}
}

func describeNetwork(n Network) string {
	text := n.Type
	if text == "" {
		text = "the type that Neutron gives"
	}
	if n.Physical != "" {
		text += " on " + n.Physical
	}
	if n.Segment != 0 {
		text += fmt.Sprintf(" with segment %d", n.Segment)
	}
	return text
}

// fixedDifference says what was asked for of a network that Neutron cannot change.
func fixedDifference(w Wanted, have Network) string {
	switch {
	case w.NetworkType != "" && w.NetworkType != have.Type:
		return w.NetworkType
	case w.PhysicalNetwork != "" && w.PhysicalNetwork != have.Physical:
		return w.PhysicalNetwork
	case w.Segment != 0 && w.Segment != have.Segment:
		return fmt.Sprintf("segment %d", w.Segment)
	}
	return ""
}

func (p *planner) subnetName() string {
	if len(p.f.Subnets) > 0 {
		return p.f.Subnets[0].Name
	}
	return p.w.Network + "-subnet"
}

// cidr returns the range of the subnet as it is or will be.
func (p *planner) cidr() (netip.Prefix, error) {
	switch {
	case len(p.f.Subnets) > 0:
		return p.f.Subnets[0].CIDR, nil
	case p.w.CIDR.IsValid():
		return p.w.CIDR, nil
	}
	return Pick(p.w.Size.Bits(), p.f.Host.taken())
}

// taken are ranges that this host has or reaches by a route of its own.
func (h HostNet) taken() []netip.Prefix {
	all := slices.Clone(h.Routes)
	for _, a := range h.Addresses {
		all = append(all, a.Prefix.Masked())
	}
	return all
}

// subnet is the range of addresses.
func (p *planner) subnet() {
	name := p.subnetName()
	if len(p.f.Subnets) > 1 {
		p.add(PartSubnet, name, Refused, nil, "the network has %d subnets of IPv4: guests and controllers have to be in one", len(p.f.Subnets))
		return
	}
	cidr, err := p.cidr()
	if err != nil {
		p.add(PartSubnet, name, Refused, nil, "%v", err)
		return
	}
	if len(p.f.Subnets) == 0 {
		p.newSubnet(name, cidr)
		return
	}
	p.haveSubnet(p.f.Subnets[0])
}

func (p *planner) newSubnet(name string, cidr netip.Prefix) {
	l, err := LayOut(cidr, p.w.Size)
	if err != nil {
		p.add(PartSubnet, name, Refused, nil, "%v", err)
		return
	}
	want := Subnet{Name: name, Description: Mark, IPVersion: 4, CIDR: cidr, DHCP: p.w.DHCP, DNS: []string{}, Pools: []Pool{l.Pool}, Routes: p.routes(cidr)}
	last := l.Controllers[len(l.Controllers)-1]
	p.add(PartSubnet, name, Make, MakeSubnet{want}, "%s for %d guests: %s to %s are for controllers, %s to %s for guests", cidr, p.w.Size.Guests(), l.Controllers[0], last, l.Pool.Start, l.Pool.End)
}

// routes are those that guests need to controllers that are not in the subnet.
func (p *planner) routes(cidr netip.Prefix) []Route {
	routes := []Route{}
	for _, c := range p.w.Controllers {
		if !cidr.Contains(c) && p.w.Via.IsValid() {
			routes = append(routes, Route{Destination: netip.PrefixFrom(c, 32).String(), NextHop: p.w.Via.String()})
		}
	}
	return routes
}

func (p *planner) haveSubnet(have Subnet) {
	w, name := p.w, have.Name
	if w.CIDR.IsValid() && w.CIDR != have.CIDR {
		p.add(PartSubnet, name, Refused, nil, "it is %s and not %s, which cannot be changed while guests are in it: take another --network with a range of its own", have.CIDR, w.CIDR)
		return
	}
	total := 0
	for _, pool := range have.Pools {
		total += pool.count()
	}
	if total < w.Size.Pool() {
		p.add(PartSubnet, name, Refused, nil,
			"%s gives out %d addresses and %d are needed: %d guests, %d of head-room, %d for DHCP. Its range cannot be changed: ask for fewer instances, or take another --network",
			have.CIDR, total, w.Size.Pool(), w.Size.Guests(), w.Size.HeadRoom(), w.Size.DHCP)
		return
	}
	routes := p.missingRoutes(have)
	var wrong []string
	if have.Gateway != nil && *have.Gateway != "" {
		wrong = append(wrong, "it has a gateway: guests get a way out of the network")
	}
	if len(have.DNS) > 0 {
		wrong = append(wrong, "it has name servers")
	}
	if have.DHCP != w.DHCP && have.Description == Mark {
		wrong = append(wrong, fmt.Sprintf("its DHCP is %s", onOff(have.DHCP)))
	}
	if len(routes) > 0 {
		wrong = append(wrong, "it has no route to controllers that are outside")
	}
	switch {
	case len(wrong) == 0:
		p.add(PartSubnet, name, There, nil, "%s, %d of %d addresses in use", have.CIDR, have.Used, total)
	case have.Description == Mark:
		p.add(PartSubnet, name, Change, ChangeSubnet{ID: have.ID, DHCP: w.DHCP, Routes: append(slices.Clone(have.Routes), routes...)}, "%s; that is mended", strings.Join(wrong, ", "))
	default:
		p.add(PartSubnet, name, Yours, nil, "it was not made here and is left as it is: %s", strings.Join(wrong, ", "))
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (p *planner) missingRoutes(have Subnet) []Route {
	return slices.DeleteFunc(p.routes(have.CIDR), func(r Route) bool { return slices.Contains(have.Routes, r) })
}

// controllers returns the addresses where guests find controllers; without any the reason.
func (p *planner) controllers() ([]netip.Addr, string) {
	if len(p.w.Controllers) > 0 {
		return p.w.Controllers, ""
	}
	cidr, err := p.cidr()
	if err != nil {
		return nil, err.Error()
	}
	for _, a := range p.f.Host.Addresses {
		if cidr.Contains(a.Prefix.Addr()) {
			return []netip.Addr{a.Prefix.Addr()}, ""
		}
	}
	if n := slices.IndexFunc(p.f.Ports, func(port Port) bool { return port.HostID == p.w.Host && len(port.Addresses) > 0 }); n >= 0 {
		return []netip.Addr{p.f.Ports[n].Addresses[0].Address}, ""
	}
	if len(p.f.Subnets) > 0 && p.f.Subnets[0].Description != Mark {
		return nil, fmt.Sprintf("this host has no address in %s: say with --controller-address where guests find the controllers", cidr)
	}
	l, err := LayOut(cidr, p.w.Size)
	if err != nil {
		return nil, err.Error()
	}
	for _, a := range l.Controllers {
		if !p.portHas(a) {
			return []netip.Addr{a}, ""
		}
	}
	return nil, fmt.Sprintf("all %d addresses of controllers are in use", len(l.Controllers))
}

// portHas reports whether a controller's port has the address.
func (p *planner) portHas(a netip.Addr) bool {
	return slices.ContainsFunc(p.f.Ports, func(port Port) bool {
		return slices.ContainsFunc(port.Addresses, func(f FixedIP) bool { return f.Address == a })
	})
}

// groups are the security groups of the guests' ports and, where controllers have ports, of those.
func (p *planner) groups() {
	at, why := p.controllers()
	if why != "" {
		p.add(PartGroup, p.w.Group, Refused, nil, "%s", why)
		return
	}
	var want []Rule
	for _, c := range at {
		for _, port := range p.w.Ports {
			want = append(want, Rule{Direction: "egress", EtherType: "IPv4", Protocol: "tcp", PortMin: port, PortMax: port, Remote: netip.PrefixFrom(c, 32).String()})
		}
	}
	// Rules for other controllers stay: this one does not know them all.
	p.group(p.w.Group, p.f.Groups, want, p.isToController)
	if p.w.Interface == "" && len(p.f.Ports) == 0 {
		return
	}
	cidr, err := p.cidr()
	if err != nil {
		return
	}
	want = nil
	for _, port := range p.w.Ports {
		want = append(want, Rule{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: port, PortMax: port, Remote: cidr.String()})
	}
	// Controllers speak with each other: brokers, and the services with the broker of another host.
	want = append(want, Rule{Direction: "egress", EtherType: "IPv4", Protocol: "tcp", Remote: cidr.String()},
		Rule{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", RemoteGroup: "self"})
	p.group(p.w.ControllerGroup, p.f.Guards, want, func(Rule) bool { return false })
}

// isToController reports whether a rule is one of those that are made here, for whatever controller.
func (p *planner) isToController(r Rule) bool {
	prefix, err := netip.ParsePrefix(r.Remote)
	return err == nil && prefix.Bits() == 32 && r.Direction == "egress" && r.Protocol == "tcp" && r.PortMin == r.PortMax && slices.Contains(p.w.Ports, r.PortMin)
}

func (p *planner) group(name string, have []Group, want []Rule, keep func(Rule) bool) {
	if p.several(PartGroup, name, len(have), "--security-group") {
		return
	}
	if len(have) == 0 {
		p.add(PartGroup, name, Make, MakeGroup{Group{Name: name, Description: Mark, Rules: want}}, "%s; nothing else", describeRules(want))
		return
	}
	g := have[0]
	changed := false
	for _, r := range want {
		if !slices.ContainsFunc(g.Rules, func(h Rule) bool { return same(h, r, g.ID) }) {
			p.add(PartGroup, name, Change, AddRule{Group: name, Rule: r}, "%s was missing", describeRule(r))
			changed = true
		}
	}
	var open []string
	for _, h := range g.Rules {
		if keep(h) || slices.ContainsFunc(want, func(r Rule) bool { return same(h, r, g.ID) }) {
			continue
		}
		if g.Description == Mark {
			p.add(PartGroup, name, Change, RemoveRule{ID: h.ID}, "%s was too much", describeRule(h))
			changed = true
			continue
		}
		open = append(open, describeRule(h))
	}
	switch {
	case len(open) > 0:
		p.add(PartGroup, name, Yours, nil, "it was not made here and is left as it is, although it allows: %s", strings.Join(open, "; "))
	case !changed:
		p.add(PartGroup, name, There, nil, "%s; nothing else", describeRules(want))
	}
}

// same reports whether a rule is what is wanted; the group itself stands as "self" in what is wanted.
func same(have, want Rule, group string) bool {
	if want.RemoteGroup == "self" {
		want.RemoteGroup = group
	}
	have.ID = ""
	return have == want
}

func describeRule(r Rule) string {
	text := "from "
	if r.Direction == "egress" {
		text = "to "
	}
	switch {
	case r.RemoteGroup != "":
		text += "controllers"
	case r.Remote != "":
		text += r.Remote
	default:
		text += "everywhere (" + r.EtherType + ")"
	}
	if r.Protocol == "" {
		return text
	}
	text += " " + r.Protocol
	switch r.PortMin {
	case 0:
	case r.PortMax:
		text += fmt.Sprintf(" %d", r.PortMin)
	default:
		text += fmt.Sprintf(" %d-%d", r.PortMin, r.PortMax)
	}
	return text
}

func describeRules(rules []Rule) string {
	all := make([]string, 0, len(rules))
	for _, r := range rules {
		all = append(all, describeRule(r))
	}
	return strings.Join(all, ", ")
}
