package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The parts that rules are made of. Each compares, in register 1, and lets the rule end if the comparison fails.

const (
	portSource      = 0 // offset in the TCP header
	portDestination = 2
	ifNameBytes     = 16
)

func padded(device string) []byte {
	b := make([]byte, ifNameBytes)
	copy(b, device)
	return b
}

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func field(base expr.PayloadBase, offset int, data []byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: uint32(offset), Len: uint32(len(data))}, equal(data)}
}

func name(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: 1}} }

func is(key expr.MetaKey, device string) []expr.Any {
	return append(name(key), equal(padded(device)))
}

func startsWith(key expr.MetaKey, prefix string) []expr.Any {
	return append(name(key), equal([]byte(prefix)))
}

func meta(key expr.MetaKey, value byte) []expr.Any { return append(name(key), equal([]byte{value})) }

func ipv4() []expr.Any { return meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4) }

func tcp() []expr.Any { return meta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP) }

// etherType reads the type where it stands in the frame: of a frame with a VLAN tag that is the tag's, unlike with the packet's protocol.
func etherType(t uint16) []expr.Any {
	return field(expr.PayloadBaseLLHeader, 12, binary.BigEndian.AppendUint16(nil, t))
}

// etherEnds compares destination and source at once.
func etherEnds(to, from net.HardwareAddr) []expr.Any {
	return field(expr.PayloadBaseLLHeader, 0, slices.Concat(to, from))
}

func etherSource(mac net.HardwareAddr) []expr.Any { return field(expr.PayloadBaseLLHeader, 6, mac) }

// arp is the head of an ARP message for IPv4 over Ethernet.
func arp() []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, 0, []byte{0, 1, 8, 0, 6, 4})
}

func arpSender(mac net.HardwareAddr, ip netip.Addr) []expr.Any {
	return append(field(expr.PayloadBaseNetworkHeader, 8, mac), field(expr.PayloadBaseNetworkHeader, 14, ip.AsSlice())...)
}

func arpTarget(ip netip.Addr) []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, 24, ip.AsSlice())
}

func source(ip netip.Addr) []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, 12, ip.AsSlice())
}

func destination(ip netip.Addr) []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, 16, ip.AsSlice())
}

// sourceIn is nothing for the range of all addresses.
func sourceIn(p netip.Prefix) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		equal(p.Masked().Addr().AsSlice()),
	}
}

// port compares the source or destination port. It fails for fragments after the first, which have none.
func port(offset, number int) []expr.Any {
	return field(expr.PayloadBaseTransportHeader, offset, binary.BigEndian.AppendUint16(nil, uint16(number)))
}

// noOpening is true for all segments but those that open a connection (SYN without ACK). Nothing is remembered of connections, so replies are
// known by this and by their port.
func noOpening() []expr.Any {
	const syn, ack = 0x02, 0x10
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{syn}},
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func accepted() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// lookup goes where the map leads from what is in register 1, and lets the rule end if it leads nowhere.
func lookup(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}
