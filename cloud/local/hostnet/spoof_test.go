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
	tcp := binary.BigEndian.AppendUint16(nil, source)
	tcp = binary.BigEndian.AppendUint16(tcp, destination)
	tcp = append(tcp, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return packet(from, to, 6, append(tcp, mark...))
}

func packet(from, to netip.Addr, protocol byte, payload []byte) []byte {
	ip := []byte{0x45, 0}
	ip = binary.BigEndian.AppendUint16(ip, uint16(20+len(payload)))
	ip = append(ip, 0, 1, 0, 0, 64, protocol, 0, 0)
	ip = slices.Concat(ip, from.AsSlice(), to.AsSlice())
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return append(ip, payload...)
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
		{"IPv6", "eth0", ether(hostT, aT, ip6, append(make([]byte, 40), mark...)), false},
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
