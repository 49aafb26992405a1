package hostnet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How clients from outside reach an engine: what they send to a public port or address is sent on to the guest, with the client's address as it is, so
// that the access rules on the guest's port hold for everybody, and the engine sees who connects. Answers go back the same way. Connections are
// remembered for that alone: what the guest sends otherwise, and what others send to it, is dropped here.

// publicSets are the sets of the inet table that instances add to, by family: 0 for IPv4, 1 for IPv6.
type publicSets struct {
	ports  [2]*nftables.Set // from a port of the host to a guest's address and port
	own    [2]*nftables.Set // from an address of the instance's own to the guest's
	guests [2]*nftables.Set // addresses of guests that are public
	// guarded are the interfaces on which forwarding was switched on for this deployment: nothing else may be forwarded from there.
	guarded *nftables.Set
}

func newPublicSets(t *nftables.Table) publicSets {
	var s publicSets
	for i, ip := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		digit := []string{"4", "6"}[i]
		s.ports[i] = &nftables.Set{
			Table: t, Name: "ports" + digit, IsMap: true, KeyType: nftables.TypeInetService,
			DataType: nftables.MustConcatSetType(ip, nftables.TypeInetService),
		}
		s.own[i] = &nftables.Set{Table: t, Name: "own" + digit, IsMap: true, KeyType: ip, DataType: ip}
		s.guests[i] = &nftables.Set{Table: t, Name: "guests" + digit, KeyType: ip}
	}
	s.guarded = &nftables.Set{Table: t, Name: "guarded", KeyType: nftables.TypeIFName}
	return s
}

func (s publicSets) all() []*nftables.Set {
	return append(slices.Concat(s.ports[:], s.own[:], s.guests[:]), s.guarded)
}

var families = [2]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

// Registers: two addresses of 4 bytes are next to each other in 8 and 9, two of 16 bytes in 1 and 2.
const (
	afterIPv4 = unix.NFT_REG32_00 + 1
	afterIPv6 = unix.NFT_REG32_00 + 4
)

// ctStatusDNAT says of a connection that its destination was translated.
const ctStatusDNAT = 1 << 5

const (
	original = 0 // the direction of the packets that began a connection
	reply    = 1
)

// routing is what the machine sends on from one interface to another.
func (f *filters) routing(forward *nftables.Chain) {
	m, t := f.n.management, f.n.tenant
	f.rule(forward, is(expr.MetaKeyIIFNAME, m.bridge), drop())
	f.rule(forward, is(expr.MetaKeyOIFNAME, m.bridge), drop())
	if f.n.public.enabled() {
		for i, family := range families {
			of := meta(expr.MetaKeyNFPROTO, family)
			f.rule(forward, is(expr.MetaKeyOIFNAME, t.bridge), of, translated(original), f.destinationOf(family), in(f.public.guests[i]), accepted())
			f.rule(forward, is(expr.MetaKeyIIFNAME, t.bridge), of, translated(reply), f.sourceOf(family), in(f.public.guests[i]), accepted())
		}
	}
	f.rule(forward, is(expr.MetaKeyIIFNAME, t.bridge), drop())
	f.rule(forward, is(expr.MetaKeyOIFNAME, t.bridge), drop())
	if f.n.public.enabled() {
		f.rule(forward, name(expr.MetaKeyIIFNAME), in(f.public.guarded), unasked(), drop())
	}
}

// publicSets makes the sets and the chains that translate.
func (f *filters) publicSets() error {
	for _, s := range f.public.all() {
		if err := f.conn.AddSet(s, nil); err != nil {
			return err
		}
	}
	if err := f.conn.SetAddElements(f.public.guarded, elements(f.n.routed.guarded())); err != nil {
		return err
	}
	for name, h := range map[string]*nftables.ChainHook{"translate": nftables.ChainHookPrerouting, "translate-own": nftables.ChainHookOutput} {
		accept := nftables.ChainPolicyAccept
		c := f.conn.AddChain(&nftables.Chain{
			Name: name, Table: f.inet, Type: nftables.ChainTypeNAT, Hooknum: h, Priority: nftables.ChainPriorityNATDest, Policy: &accept,
		})
		f.translate(c, h == nftables.ChainHookPrerouting)
	}
	return nil
}

func (f *filters) translate(c *nftables.Chain, arriving bool) {
	if arriving {
		f.rule(c, startsWith(expr.MetaKeyIIFNAME, f.n.d.prefix()), accepted())
	}
	f.rule(c, ipv4(), field(expr.PayloadBaseNetworkHeader, destination4, []byte{127}), accepted())
	f.rule(c, ofFamily(netip.IPv6Loopback()), destination(netip.IPv6Loopback()), accepted())
	for i, family := range families {
		of, size := meta(expr.MetaKeyNFPROTO, family), []int{4, 16}[i]
		nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: 1}
		f.rule(c, of, tcp(), f.destinationOf(family), mapped(f.public.own[i]), []expr.Any{nat})
		withPort := *nat
		withPort.RegProtoMin = uint32([]int{afterIPv4, afterIPv6}[i])
		withPort.Specified = true
		here := [][]expr.Any{{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL))}}
		if len(f.n.public.Addresses) > 0 {
			here = nil
		}
		for _, ip := range f.n.public.Addresses {
			if len(ip.AsSlice()) == size {
				here = append(here, destination(ip))
			}
		}
		for _, match := range here {
			f.rule(c, of, tcp(), match, transport(portDestination), mapped(f.public.ports[i]), []expr.Any{&withPort})
		}
	}
}

// publicInput is what the machine itself gets: answers to its own connections to public addresses, and nothing else for the instances' own addresses.
func (f *filters) publicInput(in *nftables.Chain) {
	f.rule(in, is(expr.MetaKeyIIFNAME, f.n.tenant.bridge), translated(reply), accepted())
	for i, family := range families {
		f.rule(in, meta(expr.MetaKeyNFPROTO, family), f.destinationOf(family), []expr.Any{
			&expr.Lookup{SourceRegister: 1, DestRegister: 2, IsDestRegSet: true, SetName: f.public.own[i].Name, SetID: f.public.own[i].ID},
		}, drop())
	}
}

// publish adds what clients from outside need to reach the instance, or takes it away. What is taken away is added before: it may not be there.
func (f *filters) publish(r record) error {
	if !f.n.public.enabled() || len(claimed(r)) == 0 {
		return nil
	}
	if err := f.publicElements(r, f.conn.SetAddElements); err != nil || f.n.published(r) {
		return err
	}
	return f.publicElements(r, f.conn.SetDeleteElements)
}

// unpublish takes away what clients from outside need.
func (f *filters) unpublish(r record) error {
	r.rules.Public = false
	return f.publish(r)
}

func (f *filters) publicElements(r record, change func(*nftables.Set, []nftables.SetElement) error) error {
	var errs []error
	for i, ip := range []netip.Addr{r.address(f.n.tenant), r.address6(f.n.tenant)} {
		if !ip.IsValid() {
			continue
		}
		errs = append(errs, change(f.public.guests[i], []nftables.SetElement{{Key: ip.AsSlice()}}))
		for k, p := range r.rules.HostPorts {
			if k >= len(r.rules.TCPPorts) {
				break
			}
			to := append(ip.AsSlice(), 0, 0, 0, 0)
			binary.BigEndian.PutUint16(to[len(to)-4:], uint16(r.rules.TCPPorts[k]))
			errs = append(errs, change(f.public.ports[i], []nftables.SetElement{{Key: binary.BigEndian.AppendUint16(nil, uint16(p)), Val: to}}))
		}
		for _, own := range r.rules.Own {
			if own.Is4() == ip.Is4() {
				errs = append(errs, change(f.public.own[i], []nftables.SetElement{{Key: own.AsSlice(), Val: ip.AsSlice()}}))
			}
		}
	}
	return errors.Join(errs...)
}

func elements(devices []string) []nftables.SetElement {
	all := make([]nftables.SetElement, 0, len(devices))
	for _, d := range devices {
		all = append(all, nftables.SetElement{Key: padded(d)})
	}
	return all
}

func (f *filters) destinationOf(family byte) []expr.Any {
	if family == unix.NFPROTO_IPV4 {
		return load(destination4, 4)
	}
	return load(destination6, 16)
}

func (f *filters) sourceOf(family byte) []expr.Any {
	if family == unix.NFPROTO_IPV4 {
		return load(source4, 4)
	}
	return load(source6, 16)
}

// translated is true for packets of connections whose destination was translated, in one direction.
func translated(direction byte) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		masked(ctStatusDNAT),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		equal([]byte{direction}),
	}
}

// unasked is true for what belongs to no connection that went on before, and is not translated by anybody.
func unasked() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		masked(expr.CtStateBitNEW | expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		masked(ctStatusDNAT),
		equal(make([]byte, 4)),
	}
}

func masked(bits uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)}
}
