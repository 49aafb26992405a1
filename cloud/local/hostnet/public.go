package hostnet

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
)

// PublicConfig says how instances are reached from outside of this machine: by a port of the host each, or by addresses of their own.
type PublicConfig struct {
	FirstPort, LastPort int            // ports of the host that instances get; 0: none
	Addresses           []netip.Addr   // the host's addresses on which these ports are open; empty: all
	Pools               []netip.Prefix // ranges of addresses that instances get instead of ports; one of each family at most
	Interface           string         // where addresses of the pools are added; empty: where the default route leads
}

func (c PublicConfig) enabled() bool { return c.FirstPort > 0 || len(c.Pools) > 0 }

// check returns an error that says what cannot be.
func (c PublicConfig) check() error {
	if c.FirstPort != 0 && (c.FirstPort < 1024 || c.LastPort > 65535 || c.FirstPort > c.LastPort) {
		return bad("The public ports %d-%d are no range between 1024 and 65535.", c.FirstPort, c.LastPort)
	}
	families := map[bool]bool{}
	for _, p := range c.Pools {
		if !p.IsValid() || families[p.Addr().Is4()] || p.Addr().Is4() && p.Bits() < 16 {
			return bad("The public ranges %v cannot be: one of IPv4, /16 or smaller, and one of IPv6 are possible.", c.Pools)
		}
		families[p.Addr().Is4()] = true
	}
	return nil
}

// Endpoint is where clients from outside connect to an engine.
type Endpoint struct {
	Address netip.Addr
	Port    int
	Engine  int // the engine's own port behind it
}

// published says whether the instance is reachable from outside.
func (n *Net) published(r record) bool { return r.rules.Public && n.public.enabled() }

// allot gives the instance a port of the host for each of the engine's, or addresses of its own, unless it has them. What it has it keeps until it is
// removed, also while it is not public. Where there is nothing to give it goes without: users are told so when they ask, and an instance from before the
// setting was taken away must still start. The caller has the deployment's lock.
func (n *Net) allot(ctx context.Context, r *record) error {
	if !n.public.enabled() {
		n.log.WarnContext(ctx, "an instance is to be public, and neither local.public_ports nor local.public_cidrs is set", "instance", r.instance)
		return nil
	}
	if len(r.rules.Own) > 0 || len(r.rules.HostPorts) >= len(r.rules.TCPPorts) && len(r.rules.TCPPorts) > 0 {
		return nil
	}
	if len(n.public.Pools) > 0 {
		return n.allotAddresses(ctx, r)
	}
	for len(r.rules.HostPorts) < len(r.rules.TCPPorts) {
		p, err := n.allotPort(ctx, *r)
		if err != nil {
			return err
		}
		r.rules.HostPorts = append(r.rules.HostPorts, p)
	}
	return nil
}

func (n *Net) allotPort(ctx context.Context, r record) (int, error) {
	count := n.public.LastPort - n.public.FirstPort + 1
	for i := range count {
		p := n.public.FirstPort + (start(r.instance, count)+i)%count
		if listening(ctx, p) {
			continue
		}
		mine, err := n.claim(ctx, portClaim(p), r.instance)
		if err != nil {
			return 0, err
		}
		if mine && !slices.Contains(r.rules.HostPorts, p) {
			return p, nil
		}
	}
	return 0, trove.Permanent(trove.Errorf(trove.KindOverLimit,
		"All %d public ports of this machine (%d to %d) are in use: remove an instance that is public, or make local.public_ports larger.",
		count, n.public.FirstPort, n.public.LastPort))
}

// start is where the search for something free begins, so that what was removed is rarely used again soon.
func start(instance string, count int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	return int(h.Sum32() % uint32(count))
}

// allotAddresses gives the instance the addresses with the same number in each pool.
func (n *Net) allotAddresses(ctx context.Context, r *record) error {
	count := math.MaxUint16
	for _, p := range n.public.Pools {
		if bits := p.Addr().BitLen() - p.Bits(); bits < 16 {
			count = min(count, 1<<bits-skipped(p))
		}
	}
	had, err := dump(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for i := range count {
		addresses := n.pooled((start(r.instance, count) + i) % count)
		if slices.ContainsFunc(addresses, func(ip netip.Addr) bool { return unfit(ip, had) }) {
			continue
		}
		mine, err := n.claimAll(ctx, addresses, r.instance)
		if err != nil {
			return err
		}
		if mine {
			r.rules.Own = addresses
			return nil
		}
	}
	return trove.Permanent(trove.Errorf(trove.KindOverLimit,
		"All public addresses of %v are in use: remove an instance that is public, or make local.public_cidrs larger.", n.public.Pools))
}

// skipped is how many addresses at the beginning of a pool are for no instance: the first one that IPv6 gives to all routers.
func skipped(p netip.Prefix) int {
	if p.Addr().Is6() && p.Bits() < 127 {
		return 1
	}
	return 0
}

// unfit reports whether an address of a pool cannot be an instance's: this machine has it for itself.
func unfit(ip netip.Addr, had []netlink.Addr) bool {
	return slices.ContainsFunc(had, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) })
}

// pooled returns the address with a number in each pool.
func (n *Net) pooled(number int) []netip.Addr {
	var all []netip.Addr
	for _, p := range n.public.Pools {
		b := p.Masked().Addr().As16()
		low := len(b) - 2
		sum := int(b[low])<<8 | int(b[low+1])
		sum += number + skipped(p)
		b[low], b[low+1] = byte(sum>>8), byte(sum)
		ip := netip.AddrFrom16(b)
		if p.Addr().Is4() {
			ip = ip.Unmap()
		}
		all = append(all, ip)
	}
	return all
}

// endpoints returns where clients from outside connect to.
func (n *Net) endpoints(r record) []Endpoint {
	if !n.published(r) {
		return nil
	}
	var all []Endpoint
	for _, ip := range r.rules.Own {
		for _, p := range r.rules.TCPPorts {
			all = append(all, Endpoint{Address: ip, Port: p, Engine: p})
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, ip := range n.shown() {
		for i, p := range r.rules.TCPPorts {
			if i < len(r.rules.HostPorts) {
				all = append(all, Endpoint{Address: ip, Port: r.rules.HostPorts[i], Engine: p})
			}
		}
	}
	return all
}

// shown returns the host's addresses that clients are told: those that are configured, else one of each family.
func (n *Net) shown() []netip.Addr {
	if len(n.public.Addresses) > 0 {
		return n.public.Addresses
	}
	var all []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if family == netlink.FAMILY_V6 && !n.routes6() {
			continue
		}
		if ip, ok := n.outwards(family); ok {
			all = append(all, ip)
		}
	}
	return all
}

// outwards returns the host's address on the interface that leads outside, else on the first that may.
func (n *Net) outwards(family int) (netip.Addr, bool) {
	found, err := n.hostAddresses(family)
	if err != nil || len(found) == 0 {
		return netip.Addr{}, false
	}
	if link, err := n.defaultLink(family); err == nil {
		for _, a := range found {
			if a.index == link.Attrs().Index {
				return a.ip, true
			}
		}
	}
	return found[0].ip, true
}

type hostAddress struct {
	ip    netip.Addr
	index int // of the interface
	name  string
}

// hostAddresses returns the addresses of this machine by which others may reach it: none of loopback, link-local, of a deployment's bridges, or of a pool.
func (n *Net) hostAddresses(family int) ([]hostAddress, error) {
	links, err := listLinks()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	found, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []hostAddress
	for _, a := range found {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		name := names[a.LinkIndex]
		if !ok || !ip.IsGlobalUnicast() || name == "" || name == "lo" || ofDeployment.MatchString(name) || n.inPool(ip) {
			continue
		}
		all = append(all, hostAddress{ip, a.LinkIndex, name})
	}
	return all, nil
}

func (n *Net) inPool(ip netip.Addr) bool {
	return slices.ContainsFunc(n.public.Pools, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// defaultLink returns the interface to which the default route of a family leads.
func (n *Net) defaultLink(family int) (netlink.Link, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return n.host.RouteList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			return n.host.LinkByIndex(r.LinkIndex)
		}
	}
	return nil, trove.Permanent(trove.Errorf(trove.KindBadRequest,
		"This machine has no default route: name the interface of the public addresses in local.public_interface."))
}

// poolLink returns the interface that has the addresses of the pools of a family.
func (n *Net) poolLink(family int) (netlink.Link, error) {
	if n.public.Interface == "" {
		return n.defaultLink(family)
	}
	link, err := n.host.LinkByName(n.public.Interface)
	if notThere(err) {
		return nil, trove.Permanent(trove.Errorf(trove.KindBadRequest, "There is no interface %s, which local.public_interface names.", n.public.Interface))
	}
	return link, err
}

// ownAddresses makes the instance's own addresses be on the host, or not.
func (n *Net) ownAddresses(r record, wanted bool) error {
	if !wanted {
		return n.withoutAddresses(r.rules.Own)
	}
	for _, ip := range r.rules.Own {
		link, err := n.poolLink(familyOf(ip))
		if err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, ip.BitLen())), Flags: settled(ip)}
		if ip.Is6() {
			a.ValidLft = math.MaxInt32 // and not preferred: this machine's own connections must not come from it
		}
		if err := n.host.AddrReplace(link, a); err != nil {
			return fmt.Errorf("add the address %s to %s: %w", ip, link.Attrs().Name, err)
		}
	}
	return nil
}

// withoutAddresses takes addresses off whichever interface has them.
func (n *Net) withoutAddresses(own []netip.Addr) error {
	if len(own) == 0 {
		return nil
	}
	all, err := dump(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		bits, size := a.Mask.Size()
		if bits != size || !slices.ContainsFunc(own, func(ip netip.Addr) bool { return a.IP.Equal(ip.AsSlice()) }) {
			continue
		}
		link, err := n.host.LinkByIndex(a.LinkIndex)
		if err == nil {
			err = n.host.AddrDel(link, &netlink.Addr{IPNet: a.IPNet})
		}
		if err != nil && !notThere(err) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the address %s: %w", a.IP, err)
		}
	}
	return nil
}
