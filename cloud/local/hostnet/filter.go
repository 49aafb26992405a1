package hostnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// filters is one transaction: what is added to it happens as a whole with commit, or not at all.
//
// The bridge table looks at each frame that a guest sends (prerouting: before the bridge learns from it) and each that it is sent (postrouting).
// Two maps lead from the name of the port to the instance's chains; a port of ours that is in no map drops everything. The inet table sees
// what the host itself gets from the bridges, and would hold if a port came to a bridge without our doing.
type filters struct {
	conn     *nftables.Conn
	n        *Net
	bridge   *nftables.Table
	inet     *nftables.Table
	from, to *nftables.Set
}

// bufferBytes lets a transaction have some ten thousand rules.
const bufferBytes = 32 << 20

// filters begins a transaction. The caller has the lock. The socket is kept: to close one after rules were removed takes as long as the kernel takes to
// be sure that nobody uses them any more, some 16 ms.
func (n *Net) filters() (*filters, error) {
	if n.conn == nil {
		conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
			return errors.Join(c.SetWriteBuffer(bufferBytes), c.SetReadBuffer(bufferBytes))
		}))
		if err != nil {
			return nil, fmt.Errorf("open the packet filter: %w", err)
		}
		n.conn = conn
	}
	f := &filters{
		conn: n.conn, n: n,
		bridge: &nftables.Table{Family: nftables.TableFamilyBridge, Name: n.d.table()},
		inet:   &nftables.Table{Family: nftables.TableFamilyINet, Name: n.d.table()},
	}
	f.from = &nftables.Set{Table: f.bridge, Name: "from", IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
	f.to = &nftables.Set{Table: f.bridge, Name: "to", IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
	return f, nil
}

func (f *filters) commit() error {
	if err := f.conn.Flush(); err != nil {
		f.n.closeFilters() // there may be answers in it that nobody read
		return fmt.Errorf("change the packet filter: %w", explain(err, "nftables"))
	}
	return nil
}

func (n *Net) closeFilters() {
	if n.conn != nil {
		_ = n.conn.CloseLasting()
		n.conn = nil
	}
}

// remove removes both tables. A table that is not there would fail the transaction, so it is added before.
func (f *filters) remove() {
	for _, t := range []*nftables.Table{f.bridge, f.inet} {
		f.conn.AddTable(t)
		f.conn.DelTable(t)
	}
}

// base makes both tables with all that does not belong to an instance.
func (f *filters) base() error {
	f.conn.AddTable(f.bridge)
	f.conn.AddTable(f.inet)
	for _, s := range []*nftables.Set{f.from, f.to} {
		if err := f.conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("make the map %s: %w", s.Name, err)
		}
	}
	accept := nftables.ChainPolicyAccept
	hook := func(t *nftables.Table, name string, h *nftables.ChainHook, p nftables.ChainPriority) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{
			Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: h, Priority: new(p), Policy: &accept,
		})
	}
	// Before and after everything else that may have an opinion on frames.
	pre := hook(f.bridge, "prerouting", nftables.ChainHookPrerouting, -310)
	post := hook(f.bridge, "postrouting", nftables.ChainHookPostrouting, 310)
	f.rule(pre, startsWith(expr.MetaKeyIIFNAME, f.n.d.prefix()), name(expr.MetaKeyIIFNAME), lookup(f.from))
	f.rule(pre, startsWith(expr.MetaKeyIIFNAME, f.n.d.prefix()), drop())
	f.rule(post, startsWith(expr.MetaKeyOIFNAME, f.n.d.prefix()), name(expr.MetaKeyOIFNAME), lookup(f.to))
	f.rule(post, startsWith(expr.MetaKeyOIFNAME, f.n.d.prefix()), drop())

	m, t := f.n.management, f.n.tenant
	in := hook(f.inet, "input", nftables.ChainHookInput, 0)
	for _, p := range f.n.ports {
		f.rule(in, is(expr.MetaKeyIIFNAME, m.bridge), ipv4(), destination(m.host()), tcp(), port(portDestination, p), accepted())
	}
	f.rule(in, is(expr.MetaKeyIIFNAME, m.bridge), drop())
	f.rule(in, is(expr.MetaKeyIIFNAME, t.bridge), ipv4(), destination(t.host()), tcp(), noOpening(), accepted())
	f.rule(in, is(expr.MetaKeyIIFNAME, t.bridge), drop())
	forward := hook(f.inet, "forward", nftables.ChainHookForward, 0)
	f.rule(forward, is(expr.MetaKeyIIFNAME, m.bridge), drop())
	f.rule(forward, is(expr.MetaKeyIIFNAME, t.bridge), drop())
	f.rule(forward, is(expr.MetaKeyOIFNAME, m.bridge), drop())
	return nil
}

// instance makes the instance's chains, replacing what they hold. A chain says what is accepted; what is not returns to the base chain, which drops it.
func (f *filters) instance(r record) error {
	for _, s := range []side{f.n.management, f.n.tenant} {
		device := f.n.d.port(s, r.number)
		from, to := f.chain("from-"+device), f.chain("to-"+device)
		mac, host, hostMAC := f.n.d.mac(s, r.instance), s.host(), f.n.d.bridgeMAC(s)
		ip := r.address(s)
		f.rule(from, etherSource(mac), etherType(unix.ETH_P_ARP), arp(), arpSender(mac, ip), arpTarget(host), accepted())
		f.rule(to, etherType(unix.ETH_P_ARP), arp(), arpSender(hostMAC, host), arpTarget(ip), accepted())
		// Every rule begins with the pins: who sends is who it says it is, on the port that it has.
		pinned := func(c *nftables.Chain, parts ...[]expr.Any) {
			if c == from {
				parts = append([][]expr.Any{etherEnds(hostMAC, mac), etherType(unix.ETH_P_IP), source(ip), tcp()}, parts...)
			} else {
				parts = append([][]expr.Any{etherEnds(mac, hostMAC), etherType(unix.ETH_P_IP), destination(ip), tcp()}, parts...)
			}
			f.rule(c, append(parts, accepted())...)
		}
		if s.letter == f.n.management.letter {
			for _, p := range f.n.ports {
				pinned(from, destination(host), port(portDestination, p))
				pinned(to, source(host), port(portSource, p), noOpening())
			}
		} else {
			for _, p := range r.rules.TCPPorts {
				pinned(from, port(portSource, p), noOpening())
				for _, prefix := range merged(r.rules.Access) {
					pinned(to, port(portDestination, p), sourceIn(prefix))
				}
			}
		}
		if err := errors.Join(f.lead(f.from, device, from), f.lead(f.to, device, to)); err != nil {
			return err
		}
	}
	return nil
}

// withoutInstance removes the instance's chains. The transaction fails with ENOENT if one is missing.
func (f *filters) withoutInstance(r record, s side) error {
	device := f.n.d.port(s, r.number)
	for m, way := range map[*nftables.Set]string{f.from: "from-", f.to: "to-"} {
		if err := f.conn.SetDeleteElements(m, []nftables.SetElement{{Key: padded(device)}}); err != nil {
			return err
		}
		f.conn.DelChain(&nftables.Chain{Name: way + device, Table: f.bridge})
	}
	return nil
}

// chain makes an empty chain of the bridge table.
func (f *filters) chain(name string) *nftables.Chain {
	c := f.conn.AddChain(&nftables.Chain{Name: name, Table: f.bridge})
	f.conn.FlushChain(c)
	return c
}

// lead makes a map lead from the port to the chain.
func (f *filters) lead(m *nftables.Set, device string, c *nftables.Chain) error {
	return f.conn.SetAddElements(m, []nftables.SetElement{{
		Key: padded(device), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name},
	}})
}

func (f *filters) rule(c *nftables.Chain, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: c.Table, Chain: c}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	f.conn.AddRule(r)
}

// merged returns the IPv4 prefixes of which none contains another; everything if none are given. IPv6 ranges have no meaning here but keep the list from
// being empty.
func merged(all []netip.Prefix) []netip.Prefix {
	if len(all) == 0 {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	}
	var out []netip.Prefix
	for i, p := range all {
		p = p.Masked()
		redundant := !p.Addr().Is4()
		for j, q := range all {
			q = q.Masked()
			redundant = redundant || q.Addr().Is4() && q.Contains(p.Addr()) && (q.Bits() < p.Bits() || q == p && j < i)
		}
		if !redundant {
			out = append(out, p)
		}
	}
	return out
}
