package hostnet_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// A mark in each frame by which it is known again.
const mark = "frame of the test"

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func ether(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	return slices.Concat(to, from, binary.BigEndian.AppendUint16(nil, kind), payload)
}

func arp(operation byte, mac net.HardwareAddr, ip netip.Addr, target netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, operation}, mac, ip.AsSlice(), make([]byte, 6), target.AsSlice(), []byte(mark))
}

// segment is an IPv4 packet with a TCP segment; the sums are of no interest to the filters.
func segment(from, to netip.Addr, source, destination uint16, flags byte) []byte {
	return packet(from, to, 6, tcp(source, destination, flags))
}

func tcp(source, destination uint16, flags byte) []byte {
	head := binary.BigEndian.AppendUint16(nil, source)
	head = binary.BigEndian.AppendUint16(head, destination)
	head = append(head, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(head, mark...)
}

// segment6 is the same for IPv6, with any number of a protocol.
func segment6(from, to netip.Addr, protocol byte, source, destination uint16, flags byte) []byte {
	return packet6(from, to, protocol, tcp(source, destination, flags))
}

func packet6(from, to netip.Addr, next byte, payload []byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
	return slices.Concat(head, []byte{next, 255}, from.AsSlice(), to.AsSlice(), payload)
}

// icmp6 is a message of neighbour discovery about a target, with the sender's MAC.
func icmp6(from, to netip.Addr, kind byte, target netip.Addr, mac net.HardwareAddr) []byte {
	return packet6(from, to, 58, slices.Concat([]byte{kind, 0, 0, 0, 0x60, 0, 0, 0}, target.AsSlice(), []byte{2, 1}, mac, []byte(mark)))
}

// advertisement says which MAC has the target.
func advertisement(from, to, target netip.Addr, mac net.HardwareAddr) []byte {
	return icmp6(from, to, 136, target, mac)
}

// fragment makes a packet a part of one.
func fragment(packet []byte, where uint16) []byte {
	packet = slices.Clone(packet)
	binary.BigEndian.PutUint16(packet[6:], where)
	return summed(packet, 20)
}

// withOption gives a packet's header an option that says nothing.
func withOption(packet []byte) []byte {
	packet = slices.Concat([]byte{0x46}, packet[1:20], []byte{1, 1, 1, 0}, packet[20:])
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	return summed(packet, 24)
}

// summed sets the sum of an IPv4 header.
func summed(packet []byte, head int) []byte {
	packet[10], packet[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < head; i += 2 {
		sum += uint32(packet[i])<<8 | uint32(packet[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(packet[10:], ^uint16(sum))
	return packet
}

func packet(from, to netip.Addr, protocol byte, payload []byte) []byte {
	ip := []byte{0x45, 0}
	ip = binary.BigEndian.AppendUint16(ip, uint16(20+len(payload)))
	ip = append(ip, 0, 1, 0, 0, 64, protocol, 0, 0)
	ip = slices.Concat(ip, from.AsSlice(), to.AsSlice())
	return append(summed(ip, 20), payload...)
}

func TestFramesThatAGuestMayNotSend(t *testing.T) { withBridgeFilter(t, framesThatAGuestMayNotSend) }

func framesThatAGuestMayNotSend(t *testing.T) {
	n := open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, n)
	management, tenant, _, _ := n.Names()
	aM, aT := n.Guest(a.Instance)
	bM, bT := n.Guest(b.Instance)
	hostM, hostT := n.Guest("bridge")
	const ack, syn = 0x10, 0x02
	const ip4, ip6, arpType, vlan = 0x0800, 0x86dd, 0x0806, 0x8100
	host6 := n.TenantHost6()
	linkLocal, allNodes := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1")
	allHosts := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	good := segment(a.Address, n.TenantHost(), engine, 50000, ack)
	tag := slices.Concat([]byte{0, 5}, binary.BigEndian.AppendUint16(nil, ip4))
	for _, test := range []struct {
		name    string
		device  string
		frame   []byte
		arrives bool // at the bridge
	}{
		{"reply of the engine", "eth0", ether(hostT, aT, ip4, good), true},
		{"question for the host", "eth0", ether(broadcast, aT, arpType, arp(1, aT, a.Address, n.TenantHost())), true},
		{"opening of a connection to the controllers", "mgmt0", ether(hostM, aM, ip4, segment(a.Management, n.HostAddress(), 50000, controller, syn)), true},
		{"question for the host on the management network", "mgmt0", ether(broadcast, aM, arpType, arp(1, aM, a.Management, n.HostAddress())), true},

		{"the other's MAC", "eth0", ether(hostT, bT, ip4, good), false},
		{"the bridge's MAC", "eth0", ether(hostT, hostT, ip4, good), false},
		{"the other's address", "eth0", ether(hostT, aT, ip4, segment(b.Address, n.TenantHost(), engine, 50000, ack)), false},
		{"the host's address", "eth0", ether(hostT, aT, ip4, segment(n.TenantHost(), n.TenantHost(), engine, 50000, ack)), false},
		{"the management address on the tenant network", "eth0", ether(hostT, aT, ip4, segment(a.Management, n.TenantHost(), engine, 50000, ack)), false},
		{"opening of a connection from the engine's port", "eth0", ether(hostT, aT, ip4, segment(a.Address, n.TenantHost(), engine, 50000, syn)), false},
		{"segment from another port", "eth0", ether(hostT, aT, ip4, segment(a.Address, n.TenantHost(), 50000, 50000, ack)), false},
		{"UDP from the engine's port", "eth0", ether(hostT, aT, ip4, packet(a.Address, n.TenantHost(), 17, append([]byte{0x0c, 0xea, 0, 53, 0, 25, 0, 0}, mark...))), false},
		{"ICMP", "eth0", ether(hostT, aT, ip4, packet(a.Address, n.TenantHost(), 1, append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, mark...))), false},
		{"ARP answer in the other's name", "eth0", ether(hostT, aT, arpType, arp(2, aT, b.Address, n.TenantHost())), false},
		{"ARP answer with the other's MAC", "eth0", ether(hostT, aT, arpType, arp(2, bT, a.Address, n.TenantHost())), false},
		{"gratuitous ARP in the host's name", "eth0", ether(broadcast, aT, arpType, arp(1, aT, n.TenantHost(), n.TenantHost())), false},
		{"question for the other", "eth0", ether(broadcast, aT, arpType, arp(1, aT, a.Address, b.Address)), false},
		{"reply of the engine over IPv6", "eth0", ether(hostT, aT, ip6, segment6(a.Address6, host6, 6, engine, 50000, ack)), true},
		{"IPv6: nothing", "eth0", ether(hostT, aT, ip6, append(make([]byte, 40), mark...)), false},
		{"IPv6: the other's address", "eth0", ether(hostT, aT, ip6, segment6(b.Address6, host6, 6, engine, 50000, ack)), false},
		{"IPv6: the host's address", "eth0", ether(hostT, aT, ip6, segment6(host6, host6, 6, engine, 50000, ack)), false},
		{"IPv6: a link-local address", "eth0", ether(hostT, aT, ip6, segment6(linkLocal, host6, 6, engine, 50000, ack)), false},
		{"IPv6: the other's MAC", "eth0", ether(hostT, bT, ip6, segment6(a.Address6, host6, 6, engine, 50000, ack)), false},
		{"IPv6: to the other", "eth0", ether(bT, aT, ip6, segment6(a.Address6, b.Address6, 6, engine, 50000, ack)), false},
		{"IPv6: to all", "eth0", ether(allHosts, aT, ip6, segment6(a.Address6, allNodes, 6, engine, 50000, ack)), false},
		{"IPv6: opening of a connection", "eth0", ether(hostT, aT, ip6, segment6(a.Address6, host6, 6, engine, 50000, syn)), false},
		{"IPv6: another port", "eth0", ether(hostT, aT, ip6, segment6(a.Address6, host6, 6, engine+1, 50000, ack)), false},
		{"IPv6: UDP", "eth0", ether(hostT, aT, ip6, segment6(a.Address6, host6, 17, engine, 53, ack)), false},
		{"IPv6: a fragment", "eth0", ether(hostT, aT, ip6, packet6(a.Address6, host6, 44, slices.Concat([]byte{6, 0, 0, 1, 0, 0, 0, 1}, tcp(engine, 50000, ack)))), false},
		{"IPv6: options before TCP", "eth0", ether(hostT, aT, ip6, packet6(a.Address6, host6, 60, slices.Concat([]byte{6, 0, 1, 4, 0, 0, 0, 0}, tcp(engine, 50000, ack)))), false},
		{"IPv6: on the management network", "mgmt0", ether(hostM, aM, ip6, segment6(a.Address6, host6, 6, 50000, controller, syn)), false},
		{"neighbour advertisement in the host's name", "eth0", ether(allHosts, aT, ip6, advertisement(a.Address6, allNodes, host6, aT)), false},
		{"neighbour advertisement in the other's name", "eth0", ether(hostT, aT, ip6, advertisement(b.Address6, host6, b.Address6, aT)), false},
		{"neighbour advertisement for itself", "eth0", ether(hostT, aT, ip6, advertisement(a.Address6, host6, a.Address6, aT)), false},
		{"question for the other's IPv6 address", "eth0", ether(allHosts, aT, ip6, icmp6(a.Address6, allNodes, 135, b.Address6, aT)), false},
		{"router advertisement", "eth0", ether(allHosts, aT, ip6, icmp6(linkLocal, allNodes, 134, host6, aT)), false},
		{"redirect", "eth0", ether(hostT, aT, ip6, icmp6(a.Address6, host6, 137, b.Address6, aT)), false},
		{"first fragment", "eth0", ether(hostT, aT, ip4, fragment(good, 0x2000)), false},
		{"later fragment", "eth0", ether(hostT, aT, ip4, fragment(good, 0x0010)), false},
		{"management: first fragment", "mgmt0", ether(hostM, aM, ip4, fragment(segment(a.Management, n.HostAddress(), 50000, controller, syn), 0x2000)), false},
		{"options in the header", "eth0", ether(hostT, aT, ip4, withOption(good)), false},
		{"VLAN tag of the provider", "eth0", ether(hostT, aT, 0x88a8, append(tag, good...)), false},
		{"two VLAN tags", "eth0", ether(hostT, aT, 0x88a8, slices.Concat([]byte{0, 5, 0x81, 0}, tag, good)), false},
		{"VLAN tag of priority alone", "eth0", ether(hostT, aT, vlan, slices.Concat([]byte{0xe0, 0}, tag[2:], segment(b.Address, n.TenantHost(), engine, 50000, ack))), false},
		{"VLAN tag on the management network", "mgmt0", ether(hostM, aM, vlan, append(tag, segment(a.Management, n.HostAddress(), 50000, controller, syn)...)), false},
		{"VLAN tag before ARP", "eth0", ether(broadcast, aT, vlan, slices.Concat([]byte{0, 5, 8, 6}, arp(2, aT, n.TenantHost(), b.Address))), false},
		{"VLAN tag before IPv6", "eth0", ether(allHosts, aT, vlan, slices.Concat([]byte{0, 5, 0x86, 0xdd}, advertisement(a.Address6, allNodes, host6, aT))), false},
		{"PPPoE", "eth0", ether(hostT, aT, 0x8864, slices.Concat([]byte{0x11, 0, 0, 1, 0, 42, 0, 0x21}, good)), false},
		{"to the metadata address", "eth0", ether(hostT, aT, ip4, segment(a.Address, netip.MustParseAddr("169.254.169.254"), 50000, 80, syn)), false},
		{"spanning tree", "eth0", ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, aT, 39, slices.Concat([]byte{0x42, 0x42, 3}, make([]byte, 36), []byte(mark))), false},
		{"VLAN tag", "eth0", ether(hostT, aT, vlan, append(tag, good...)), false},
		{"unknown protocol", "eth0", ether(hostT, aT, 0x88b5, []byte(mark)), false},
		{"broadcast", "eth0", ether(broadcast, aT, ip4, good), false},
		{"management: the other's address", "mgmt0", ether(hostM, aM, ip4, segment(b.Management, n.HostAddress(), 50000, controller, syn)), false},
		{"management: the other's MAC", "mgmt0", ether(hostM, bM, ip4, segment(a.Management, n.HostAddress(), 50000, controller, syn)), false},
		{"management: another port", "mgmt0", ether(hostM, aM, ip4, segment(a.Management, n.HostAddress(), 50000, controller+1, syn)), false},
		{"management: another address of the host", "mgmt0", ether(hostM, aM, ip4, segment(a.Management, n.TenantHost(), 50000, controller, syn)), false},
	} {
		device := tenant
		if test.device == "mgmt0" {
			device = management
		}
		bridge, neighbour, neighbourM := sniff(t, nil, device), sniff(t, &b, "eth0"), sniff(t, &b, "mgmt0")
		send(t, a, test.device, test.frame)
		wait := blocked / 3
		if test.arrives {
			wait = patience
		}
		if got := bridge.has(t, mark, wait); got != test.arrives {
			t.Errorf("%s: arrives %v, want %v", test.name, got, test.arrives)
		}
		if neighbour.has(t, mark, blocked/10) || neighbourM.has(t, mark, blocked/10) {
			t.Errorf("%s: arrives at the other guest", test.name)
		}
	}
}

// The neighbour gets nothing even if the frame is right in all but its destination.
func TestFramesForANeighbour(t *testing.T) {
	n := open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, n)
	_, aT := n.Guest(a.Instance)
	_, bT := n.Guest(b.Instance)
	// Frames of its own let the bridge learn where b is.
	_, hostT := n.Guest("bridge")
	send(t, b, "eth0", ether(hostT, bT, 0x0800, segment(b.Address, n.TenantHost(), engine, 50000, 0x10)))
	neighbour := sniff(t, &b, "eth0")
	send(t, a, "eth0", ether(bT, aT, 0x0800, segment(a.Address, b.Address, engine, 50000, 0x10)))
	send(t, a, "eth0", ether(bT, aT, 0x0800, segment(a.Address, b.Address, 50000, engine, 0x02)))
	send(t, a, "eth0", ether(bT, aT, 0x0806, arp(2, aT, n.TenantHost(), b.Address)))
	if neighbour.has(t, mark, blocked) {
		t.Error("a frame of one guest arrived at another")
	}
}
