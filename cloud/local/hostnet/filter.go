package hostnet

import (
	"errors"
	"fmt"
	"net"
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
	public   publicSets
	replaced bool // the tables are made anew
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
	f.public = newPublicSets(f.inet)
	return f, nil
}

func (f *filters) commit() error {
	before, unknown := f.n.generation() // if it cannot be read the next check looks at everything
	if err := f.conn.Flush(); err != nil {
		f.n.closeFilters() // there may be answers in it that nobody read
		return fmt.Errorf("change the packet filter: %w", explain(err, "nftables"))
	}
	f.n.state = f.n.after(before, unknown == nil, f.replaced)
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
	f.replaced = true
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

	if f.n.public.enabled() {
		if err := f.publicSets(); err != nil {
			return err
		}
	}
	f.input(hook(f.inet, "input", nftables.ChainHookInput, 0))
	f.routing(hook(f.inet, "forward", nftables.ChainHookForward, 0))
	return nil
}

// input is what the host itself gets from the bridges.
func (f *filters) input(in *nftables.Chain) {
	m, t := f.n.management, f.n.tenant
	for _, p := range f.n.allPorts() {
		f.rule(in, is(expr.MetaKeyIIFNAME, m.bridge), ipv4(), destination(m.host()), tcp(), port(portDestination, p), accepted())
	}
	f.rule(in, is(expr.MetaKeyIIFNAME, m.bridge), drop())
	for _, ip := range f.n.tenantHosts() {
		f.rule(in, is(expr.MetaKeyIIFNAME, t.bridge), ofFamily(ip), destination(ip), tcp(), noOpening(), accepted())
	}
	if f.n.public.enabled() {
		f.publicInput(in)
	}
	f.rule(in, is(expr.MetaKeyIIFNAME, t.bridge), drop())
}

// tenantHosts are the addresses of the tenant bridge.
func (n *Net) tenantHosts() []netip.Addr {
	all := []netip.Addr{n.tenant.host()}
	if n.tenant.prefix6.IsValid() {
		all = append(all, n.tenant.host6())
	}
	return all
}

// instance makes the instance's chains, replacing what they hold. A chain says what is accepted; what a guest sends beyond that is counted and dropped,
// what it is sent returns to the base chain, which drops it.
func (f *filters) instance(r record) error {
	if err := errors.Join(f.onManagement(r), f.onTenant(r)); err != nil {
		return err
	}
	return f.publish(r)
}

// ends are both chains of an instance's port.
type ends struct {
	f         *filters
	device    string
	from, to  *nftables.Chain
	mac, host net.HardwareAddr // the guest's and the bridge's
}

// port makes both chains of a port, with what is the same for all, and leads there.
func (f *filters) port(r record, s side) (ends, error) {
	device := f.n.d.port(s, r.number)
	e := ends{
		f: f, device: device, from: f.chain("from-" + device), to: f.chain("to-" + device),
		mac: f.n.d.mac(s, r.instance), host: f.n.d.bridgeMAC(s),
	}
	for _, reason := range reasonsOn(s) {
		f.conn.AddObj(&nftables.CounterObj{Table: f.bridge, Name: counterName(reason, device)})
	}
	ip := r.address(s)
	f.rule(e.from, etherSource(e.mac), etherType(unix.ETH_P_ARP), arp(), arpSender(e.mac, ip), arpTarget(s.host()), accepted())
	f.rule(e.to, etherType(unix.ETH_P_ARP), arp(), arpSender(e.host, s.host()), arpTarget(ip), accepted())
	return e, errors.Join(f.lead(f.from, device, e.from), f.lead(f.to, device, e.to))
}

// sent adds a rule for what the guest sends from its address. It begins with the pins: who sends is who it says it is, on the port that it has.
func (e ends) sent(ip netip.Addr, parts ...[]expr.Any) {
	e.f.rule(e.from, append([][]expr.Any{etherEnds(e.host, e.mac), plain(ip), source(ip)}, parts...)...)
}

// received adds a rule for what the guest is sent at its address.
func (e ends) received(ip netip.Addr, parts ...[]expr.Any) {
	e.f.rule(e.to, append([][]expr.Any{etherEnds(e.mac, e.host), plain(ip), destination(ip)}, parts...)...)
}

// close ends the chain of what the guest sends. A guest's kernel reports which groups it is in as soon as it has an IPv6 address: that is nobody's attack.
func (e ends) close() {
	e.f.rule(e.from, etherTo(groupReports), drop())
	e.f.rule(e.from, e.counted(droppedRefused), drop())
}

func (f *filters) onManagement(r record) error {
	s := f.n.management
	e, err := f.port(r, s)
	ip, host := r.address(s), s.host()
	for _, p := range f.n.ports {
		to := [][]expr.Any{destination(host), port(portDestination, p)}
		e.sent(ip, append(to, opening(), over(connectionRate), e.counted(droppedConnections), drop())...)
		e.sent(ip, append(to, over(byteRate), e.counted(droppedBytes), drop())...)
	}
	for _, p := range f.n.bulk {
		e.sent(ip, destination(host), port(portDestination, p), opening(), over(bulkRate), e.counted(droppedConnections), drop())
	}
	for _, p := range f.n.allPorts() {
		e.sent(ip, destination(host), port(portDestination, p), accepted())
		e.received(ip, source(host), port(portSource, p), noOpening(), accepted())
	}
	e.close()
	return err
}

func (f *filters) onTenant(r record) error {
	s := f.n.tenant
	e, err := f.port(r, s)
	for _, ip := range []netip.Addr{r.address(s), r.address6(s)} {
		if !ip.IsValid() {
			continue
		}
		for _, p := range r.rules.TCPPorts {
			e.sent(ip, port(portSource, p), noOpening(), accepted())
			for _, prefix := range merged(r.rules.Access, ip) {
				e.received(ip, port(portDestination, p), sourceIn(prefix), accepted())
			}
		}
	}
	e.close()
	return err
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
	for _, reason := range reasonsOn(s) {
		f.conn.DeleteObject(&nftables.CounterObj{Table: f.bridge, Name: counterName(reason, device)})
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

// merged returns the prefixes of the address's family of which none contains another; everything if no ranges are given at all.
func merged(all []netip.Prefix, ip netip.Addr) []netip.Prefix {
	if len(all) == 0 {
		return []netip.Prefix{pick(ip, everyHost, everyHost6)}
	}
	var out []netip.Prefix
	for i, p := range all {
		p = p.Masked()
		redundant := p.Addr().Is4() != ip.Is4()
		for j, q := range all {
			q = q.Masked()
			redundant = redundant || q.Addr().Is4() == ip.Is4() && q.Contains(p.Addr()) && (q.Bits() < p.Bits() || q == p && j < i)
		}
		if !redundant {
			out = append(out, p)
		}
	}
	return out
}
