package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/netns"
)

func (n *Net) ensureBridges() error {
	for _, s := range []side{n.management, n.tenant} {
		if err := n.ensureBridge(s); err != nil {
			return fmt.Errorf("make the bridge %s: %w", s.bridge, err)
		}
	}
	return nil
}

// ensureBridge makes a side's bridge be there and up, with exactly its addresses.
func (n *Net) ensureBridge(s side) error {
	link, err := netlink.LinkByName(s.bridge)
	if notThere(err) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = s.bridge, n.d.bridgeMAC(s)
		off := false
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}); err != nil {
			return explain(err, "bridge")
		}
		link, err = netlink.LinkByName(s.bridge)
	}
	if err != nil {
		return err
	}
	if link.Type() != "bridge" {
		return trove.Permanent(trove.Errorf(trove.KindConflict, "The interface %s is a %s; the name is needed for a bridge.", s.bridge, link.Type()))
	}
	if err := ensureAddress(link, netlink.FAMILY_V4, netip.PrefixFrom(s.host(), s.prefix.Bits())); err != nil {
		return err
	}
	if !s.prefix6.IsValid() {
		if err := silenceIPv6(s.bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}
	if err := quietIPv6(s.bridge); err != nil {
		return err
	}
	if err := ensureAddress(link, netlink.FAMILY_V6, netip.PrefixFrom(s.host6(), s.prefix6.Bits())); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// ensureAddress makes an interface have exactly one address of a family.
func ensureAddress(link netlink.Link, family int, address netip.Prefix) error {
	had, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	want := ipNet(address)
	found := false
	for _, a := range had {
		if a.IPNet.String() == want.String() {
			found = true
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove the address %s: %w", a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: want, Flags: settled(address.Addr())}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("set the address %s: %w", want, err)
	}
	return nil
}

// settled are the flags of a new address: an IPv6 one can be used at once, nobody is asked whether somebody else has it.
func settled(ip netip.Addr) int {
	if ip.Is4() {
		return 0
	}
	return unix.IFA_F_NODAD
}

// attach makes the instance's interface on one side be there and up, on both ends.
func (n *Net) attach(ns *namespace, r record, s side) error {
	bridge, err := n.host.LinkByName(s.bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", s.bridge, err)
	}
	name, mac := n.d.port(s, r.number), n.d.mac(s, r.instance)
	outer, inner, err := n.ensurePair(ns, name, s.inside, mac, bridge.Attrs().Index)
	if err != nil {
		return fmt.Errorf("make the veth pair %s: %w", name, err)
	}
	if outer.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := n.host.LinkSetMaster(outer, bridge); err != nil {
			return fmt.Errorf("attach %s to %s: %w", name, s.bridge, err)
		}
	}
	// Isolated before it is up: isolated ports of a bridge cannot reach one another.
	if err := n.host.LinkSetIsolated(outer, true); err != nil {
		return fmt.Errorf("isolate %s: %w", name, err)
	}
	address := netip.PrefixFrom(r.address(s), s.prefix.Bits())
	if err := ns.handle.AddrReplace(inner, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("give %s to %s: %w", address, s.inside, err)
	}
	if err := n.attach6(ns, inner, r, s); err != nil {
		return err
	}
	if err := ns.handle.LinkSetUp(inner); err != nil {
		return fmt.Errorf("switch %s on: %w", s.inside, err)
	}
	// The outer end is last, so that the bridge finds its port connected at once.
	if outer.Attrs().Flags&net.FlagUp == 0 {
		if err := silenceIPv6(name); err != nil {
			return err
		}
		if err := n.host.LinkSetUp(outer); err != nil {
			return fmt.Errorf("switch %s on: %w", name, err)
		}
	}
	return n.introduce(ns, bridge, inner, r, s)
}

// attach6 gives the guest's end its IPv6 address.
func (n *Net) attach6(ns *namespace, inner netlink.Link, r record, s side) error {
	ip := r.address6(s)
	if !ip.IsValid() {
		return nil
	}
	if err := netns.Inside(ns.file, func() error { return quietIPv6(s.inside) }); err != nil {
		return err
	}
	address := netip.PrefixFrom(ip, s.prefix6.Bits())
	if err := ns.handle.AddrReplace(inner, &netlink.Addr{IPNet: ipNet(address), Flags: settled(ip)}); err != nil {
		return fmt.Errorf("give %s to %s: %w", address, s.inside, err)
	}
	return nil
}

// introduce makes both ends know each other without asking: a guest cannot confuse the host, and an address that had another owner before works at once.
// On the tenant network the bridge is the way to everywhere: what an engine answers to a client goes there. The filters let nothing else through.
func (n *Net) introduce(ns *namespace, bridge, inner netlink.Link, r record, s side) error {
	ends := [][2]netip.Addr{{r.address(s), s.host()}}
	if ip := r.address6(s); ip.IsValid() {
		ends = append(ends, [2]netip.Addr{ip, s.host6()})
	}
	for _, e := range ends {
		if err := n.host.NeighSet(neighbour(bridge, e[0], n.d.mac(s, r.instance))); err != nil {
			return fmt.Errorf("note the address %s: %w", e[0], err)
		}
		if err := ns.handle.NeighSet(neighbour(inner, e[1], n.d.bridgeMAC(s))); err != nil {
			return fmt.Errorf("note the address of %s: %w", s.bridge, err)
		}
		if s.letter != n.tenant.letter {
			continue
		}
		everywhere := everyHost
		if e[1].Is6() {
			everywhere = everyHost6
		}
		err := ns.handle.RouteReplace(&netlink.Route{
			LinkIndex: inner.Attrs().Index, Dst: ipNet(everywhere), Gw: e[1].AsSlice(), Flags: int(netlink.FLAG_ONLINK),
		})
		if err != nil {
			return fmt.Errorf("route what goes out of %s by %s: %w", s.inside, e[1], err)
		}
	}
	return nil
}

// awaitCarrier waits until the interfaces carry packets. The kernel sees to that in the background, mostly within a millisecond; a packet that is
// sent before is lost, and its repetition takes TCP a second. It is no error if it takes longer.
func (n *Net) awaitCarrier(ctx context.Context, ns *namespace) error {
	const tries = 100
	up := func(h *netlink.Handle, name string) bool {
		link, err := h.LinkByName(name)
		return err == nil && (link.Attrs().OperState == netlink.OperUp || link.Attrs().OperState == netlink.OperUnknown)
	}
	for range tries {
		if up(n.host, n.management.bridge) && up(n.host, n.tenant.bridge) && up(ns.handle, n.management.inside) && up(ns.handle, n.tenant.inside) {
			return nil
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// ensurePair makes the veth pair be there: one end here, the other in the namespace. Ends without their counterpart are removed before.
func (n *Net) ensurePair(ns *namespace, name, inside string, mac net.HardwareAddr, master int) (outer, inner netlink.Link, err error) {
	outer, inner, whole, err := n.findPair(ns, name, inside, mac)
	if err != nil || whole {
		return outer, inner, err
	}
	if outer != nil {
		if err := removeLink(name); err != nil {
			return nil, nil, err
		}
	} else if inner != nil {
		if err := ns.handle.LinkDel(inner); err != nil && !errors.Is(err, unix.ENODEV) {
			return nil, nil, err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = name, master
	// The library sets the index of what it made, and the bridge.
	outer = &netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.file.Fd()))}
	if err := n.host.LinkAdd(outer); err != nil {
		return nil, nil, explain(err, "veth")
	}
	inner, err = ns.handle.LinkByName(inside)
	return outer, inner, err
}

// findPair returns the ends that are there (nil for one that is not), and whether they are the pair that is wanted.
func (n *Net) findPair(ns *namespace, name, inside string, mac net.HardwareAddr) (outer, inner netlink.Link, whole bool, err error) {
	outer, err = n.host.LinkByName(name)
	if notThere(err) {
		outer, err = nil, nil
	}
	if err != nil {
		return nil, nil, false, err
	}
	if !ns.fresh || outer != nil {
		inner, err = ns.handle.LinkByName(inside)
		if notThere(err) {
			inner, err = nil, nil
		}
		if err != nil {
			return nil, nil, false, err
		}
	}
	whole = outer != nil && inner != nil && outer.Attrs().ParentIndex == inner.Attrs().Index &&
		inner.Attrs().ParentIndex == outer.Attrs().Index && bytes.Equal(inner.Attrs().HardwareAddr, mac)
	return outer, inner, whole, nil
}

// removeLink removes an interface; one that is not there is fine.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if notThere(err) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the interface %s: %w", name, err)
	}
	return nil
}

// forget removes what the host noted of the instance's addresses.
func (n *Net) forget(r record) error {
	for _, s := range []side{n.management, n.tenant} {
		bridge, err := netlink.LinkByName(s.bridge)
		if notThere(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find the bridge %s: %w", s.bridge, err)
		}
		for _, ip := range []netip.Addr{r.address(s), r.address6(s)} {
			if !ip.IsValid() {
				continue
			}
			err := netlink.NeighDel(neighbour(bridge, ip, n.d.mac(s, r.instance)))
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("forget the address %s: %w", ip, err)
			}
		}
	}
	return nil
}

func neighbour(link netlink.Link, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: familyOf(ip), State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac,
	}
}

func familyOf(ip netip.Addr) int {
	if ip.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// explain makes a sentence of an error that a missing right or kernel module gives.
func explain(err error, what string) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return trove.Permanent(trove.Wrap(trove.KindForbidden, err,
			"The kernel refuses to make a %s: the local cloud needs root with the capability NET_ADMIN in the machine's own network namespace.", what))
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return trove.Permanent(trove.Wrap(trove.KindUnavailable, err,
			"The kernel has no support for %s: load the module (modprobe %s) or use a kernel that has it.", what, module(what)))
	}
	return err
}

func module(what string) string {
	if what == "nftables" {
		return "nf_tables"
	}
	return what
}
