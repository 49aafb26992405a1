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

// ofFamily compares the family with the address's.
func ofFamily(ip netip.Addr) []expr.Any {
	return meta(expr.MetaKeyNFPROTO, pick[byte](ip, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6))
}

func tcp() []expr.Any { return meta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP) }

// etherType reads the type where it stands in the frame: of a frame with a VLAN tag that is the tag's, unlike with the packet's protocol.
func etherType(t uint16) []expr.Any {
	return field(expr.PayloadBaseLLHeader, 12, binary.BigEndian.AppendUint16(nil, t))
}

// etherEnds compares destination and source at once.
func etherEnds(to, from net.HardwareAddr) []expr.Any {
	return field(expr.PayloadBaseLLHeader, 0, slices.Concat(to, from))
}

func etherTo(mac net.HardwareAddr) []expr.Any { return field(expr.PayloadBaseLLHeader, 0, mac) }

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

// The places of the addresses in the headers of both families.
const (
	source4, destination4 = 12, 16
	source6, destination6 = 8, 24
)

func source(ip netip.Addr) []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, pick(ip, source4, source6), ip.AsSlice())
}

func destination(ip netip.Addr) []expr.Any {
	return field(expr.PayloadBaseNetworkHeader, pick(ip, destination4, destination6), ip.AsSlice())
}

func pick[T any](ip netip.Addr, v4, v6 T) T {
	if ip.Is4() {
		return v4
	}
	return v6
}

// load reads an address of the header into register 1.
func load(offset, size int) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(offset), Len: uint32(size)}}
}

// sourceIn is nothing for the range of all addresses.
func sourceIn(p netip.Prefix) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	size := p.Addr().BitLen() / 8
	return append(load(pick(p.Addr(), source4, source6), size),
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size),
		},
		equal(p.Masked().Addr().AsSlice()))
}

// plain is true for packets of the address's family whose TCP header follows at once: no fragments, options or extension headers.
func plain(ip netip.Addr) []expr.Any {
	if ip.Is6() {
		const nextHeader = 6
		return append(etherType(unix.ETH_P_IPV6), field(expr.PayloadBaseNetworkHeader, nextHeader, []byte{unix.IPPROTO_TCP})...)
	}
	const fragment, offsetAndMore = 6, 0x3fff
	return slices.Concat(etherType(unix.ETH_P_IP), field(expr.PayloadBaseNetworkHeader, 0, []byte{0x45}), load(fragment, 2), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: binary.BigEndian.AppendUint16(nil, offsetAndMore), Xor: make([]byte, 2)},
		equal([]byte{0, 0}),
	}, tcp())
}

// port compares the source or destination port. It fails for fragments after the first, which have none.
func port(offset, number int) []expr.Any {
	return field(expr.PayloadBaseTransportHeader, offset, binary.BigEndian.AppendUint16(nil, uint16(number)))
}

const (
	flagSYN = 0x02
	flagACK = 0x10
)

// opening is true for segments that open a connection (SYN without ACK).
func opening() []expr.Any { return flags(expr.CmpOpEq) }

// noOpening is true for all segments but those that open a connection. Nothing is remembered of connections, so replies are known by this and by
// their port.
func noOpening() []expr.Any { return flags(expr.CmpOpNeq) }

func flags(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagSYN | flagACK}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{flagSYN}},
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func accepted() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// lookup goes where the map leads from what is in register 1, and lets the rule end if it leads nowhere.
func lookup(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}

// in is true if the set has what is in register 1.
func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

// mapped puts into register 1 what the map has for what is there.
func mapped(m *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}
}

// transport reads a port into register 1.
func transport(offset int) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: uint32(offset), Len: 2}}
}
