package hostnet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What can be found other than it should be.
const (
	driftFilter     = "filter"
	driftBridge     = "bridge"
	driftPort       = "port"
	driftAddress    = "address"
	driftNeighbour  = "neighbour"
	driftForwarding = "forwarding"
)

// Drift is something that was found other than it should be, and mended.
type Drift struct {
	What     string // filter, bridge, port, address, neighbour or forwarding
	Instance string // "": it belongs to no instance alone
	Sentence string
}

// Check looks whether everything is as it should be and mends what is not. A thorough check takes more time, so that later ones take less. It
// returns what it mended.
func (n *Net) Check(ctx context.Context, thorough bool) ([]Drift, error) {
	unlock, err := n.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []Drift
	mended, err := n.checkFilters(thorough, n.d.readRecords)
	if err != nil {
		return nil, fmt.Errorf("check the packet filter: %w", err)
	}
	if mended {
		found = append(found, Drift{What: driftFilter, Sentence: "The packet filters of the deployment were changed by somebody else and were made again."})
	}
	links, needed, err := n.checkLinks()
	if err != nil {
		return found, fmt.Errorf("check the network: %w", err)
	}
	if len(links) > 0 {
		return append(found, links...), n.repair(ctx)
	}
	// Another interface of this machine, from which clients may come, is nothing to be mended.
	want, err := n.wantRouted(needed)
	if err != nil {
		return found, err
	}
	off := n.routed.off()
	if len(off) > 0 {
		found = append(found, Drift{What: driftForwarding, Sentence: fmt.Sprintf("Forwarding was switched off: %s.", strings.Join(off, ", "))})
	}
	if len(off) > 0 || !slices.Equal(want.IPv4, n.routed.IPv4) || !slices.Equal(want.IPv6, n.routed.IPv6) {
		return found, n.routeFor(ctx)
	}
	return found, nil
}

// machine is what of the machine's network is looked at, read once.
type machine struct {
	links      map[string]netlink.Link
	isolated   map[int]bool
	addresses  map[int][]netip.Prefix
	neighbours map[neighbourKey]string // the MAC of what is permanent
}

type neighbourKey struct {
	link int
	ip   netip.Addr
}

func (n *Net) look() (machine, error) {
	m := machine{links: map[string]netlink.Link{}, addresses: map[int][]netip.Prefix{}, neighbours: map[neighbourKey]string{}}
	links, err := dump(n.host.LinkList)
	if err != nil {
		return m, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, n.d.prefix()) {
			m.links[l.Attrs().Name] = l
		}
	}
	if m.isolated, err = isolatedPorts(); err != nil {
		return m, err
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return m, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			bits, _ := a.Mask.Size()
			m.addresses[a.LinkIndex] = append(m.addresses[a.LinkIndex], netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	noted, err := dump(func() ([]netlink.Neigh, error) { return n.host.NeighList(0, netlink.FAMILY_ALL) })
	if err != nil {
		return m, fmt.Errorf("list neighbours: %w", err)
	}
	for _, e := range noted {
		if ip, ok := netip.AddrFromSlice(e.IP); ok && e.State == netlink.NUD_PERMANENT {
			m.neighbours[neighbourKey{e.LinkIndex, ip.Unmap()}] = string(e.HardwareAddr)
		}
	}
	return m, nil
}

// isolatedPorts returns which ports of bridges are isolated.
func isolatedPorts() (map[int]bool, error) {
	all, err := dump(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	})
	if err != nil {
		return nil, fmt.Errorf("list the ports of bridges: %w", err)
	}
	isolated := map[int]bool{}
	for _, m := range all {
		head := nl.DeserializeIfInfomsg(m)
		for kind, value := range attributes(m[head.Len():]) {
			if kind != unix.IFLA_PROTINFO {
				continue
			}
			for flag, on := range attributes(value) {
				if flag == nl.IFLA_BRPORT_ISOLATED && len(on) == 1 && on[0] == 1 {
					isolated[int(head.Index)] = true
				}
			}
		}
	}
	return isolated, nil
}

// checkLinks returns what of bridges, ports, addresses and neighbours is not as it should be, and whether an instance is public.
func (n *Net) checkLinks() (found []Drift, public bool, err error) {
	m, err := n.look()
	if err != nil {
		return nil, false, err
	}
	numbers, err := n.d.numbers()
	if err != nil {
		return nil, false, err
	}
	for _, s := range []side{n.management, n.tenant} {
		found = append(found, n.checkBridge(m, s)...)
		for id, number := range numbers {
			if d, ok := n.checkPort(m, s, record{instance: id, number: number}); !ok {
				found = append(found, d)
			}
		}
	}
	own, public, err := n.checkPublic(m)
	return append(found, own...), public, err
}

func (n *Net) checkBridge(m machine, s side) []Drift {
	bridge := m.links[s.bridge]
	if bridge == nil || bridge.Type() != "bridge" || bridge.Attrs().Flags&net.FlagUp == 0 {
		return []Drift{{What: driftBridge, Sentence: fmt.Sprintf("The bridge %s was not there or was switched off.", s.bridge)}}
	}
	want := []netip.Prefix{netip.PrefixFrom(s.host(), s.prefix.Bits())}
	if s.prefix6.IsValid() {
		want = append(want, netip.PrefixFrom(s.host6(), s.prefix6.Bits()))
	}
	had := slices.Clone(m.addresses[bridge.Attrs().Index])
	slices.SortFunc(had, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	if !slices.Equal(had, want) {
		return []Drift{{What: driftAddress, Sentence: fmt.Sprintf("The bridge %s had the addresses %v in place of %v.", s.bridge, had, want)}}
	}
	return nil
}

func (n *Net) checkPort(m machine, s side, r record) (Drift, bool) {
	name := n.d.port(s, r.number)
	port, bridge := m.links[name], m.links[s.bridge]
	wrong := func(what, format string, args ...any) (Drift, bool) {
		return Drift{What: what, Instance: r.instance, Sentence: fmt.Sprintf(format, args...)}, false
	}
	switch {
	case port == nil:
		return wrong(driftPort, "The interface %s of the instance was not there.", name)
	case bridge == nil:
		return Drift{}, true // that is said of the bridge
	case port.Attrs().MasterIndex != bridge.Attrs().Index:
		return wrong(driftPort, "The interface %s was not attached to %s.", name, s.bridge)
	case !m.isolated[port.Attrs().Index]:
		return wrong(driftPort, "The interface %s was not kept apart from those of other instances.", name)
	case port.Attrs().Flags&net.FlagUp == 0:
		return wrong(driftPort, "The interface %s was switched off.", name)
	}
	mac := n.d.mac(s, r.instance)
	for _, ip := range []netip.Addr{r.address(s), r.address6(s)} {
		if ip.IsValid() && !bytes.Equal([]byte(m.neighbours[neighbourKey{bridge.Attrs().Index, ip}]), mac) {
			return wrong(driftNeighbour, "This machine had forgotten the MAC of %s.", ip)
		}
	}
	return Drift{}, true
}

// checkPublic looks at the addresses of public instances, and whether there is one. Only their records are read.
func (n *Net) checkPublic(m machine) (found []Drift, needed bool, err error) {
	if !n.public.enabled() {
		return nil, false, nil
	}
	entries, err := os.ReadDir(claims)
	if err != nil && !os.IsNotExist(err) {
		return nil, false, fmt.Errorf("list public ports and addresses: %w", err)
	}
	owners := map[string]bool{}
	for _, e := range entries {
		if owner, err := os.Readlink(filepath.Join(claims, e.Name())); err == nil && filepath.Dir(owner) == n.d.namespaces() {
			owners[filepath.Base(owner)] = true
		}
	}
	for id := range owners {
		r, ok, err := n.d.find(id)
		if err != nil {
			return nil, false, err
		}
		if !ok || !n.published(r) {
			continue
		}
		needed = true
		for _, ip := range r.rules.Own {
			if !m.has(ip) {
				found = append(found, Drift{What: driftAddress, Instance: id, Sentence: fmt.Sprintf("The public address %s was not on this machine.", ip)})
			}
		}
	}
	return found, needed, nil
}

func (m machine) has(ip netip.Addr) bool {
	for _, all := range m.addresses {
		if slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Addr() == ip }) {
			return true
		}
	}
	return false
}

// off are the settings that were switched on for this deployment and are off.
func (r routed) off() []string {
	var all []string
	for _, s := range []struct {
		f     forwards
		names []string
	}{{forwards4, r.IPv4}, {forwards6, r.IPv6}} {
		for _, name := range s.names {
			path := tunablePath(s.f.directory, name, s.f.each)
			if _, err := os.Stat(path); err == nil && !switchedOn(path) {
				all = append(all, path)
			}
		}
	}
	return all
}
