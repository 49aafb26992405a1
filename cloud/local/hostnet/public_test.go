package hostnet_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/tests/outside"
)

// outsider is a client machine.
type outsider struct{ outside.Machine }

func newOutside(t testing.TB) outsider {
	t.Helper()
	return outsider{outside.New(t)}
}

// connects opens a connection from outside.
func (o outsider) connects(t testing.TB, to netip.Addr, port int, wait bool) error {
	t.Helper()
	limit := blocked
	if wait {
		limit = patience
	}
	var result error
	if err := o.Do(func() error {
		result = dial(to, port, anywhere, limit)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return result
}

var somePorts = hostnet.PublicConfig{FirstPort: 21700, LastPort: 21703}

func TestPublicPort(t *testing.T) { withBridgeFilter(t, publicPort) }

func publicPort(t *testing.T) {
	o := newOutside(t)
	n := open(t, hostnet.Config{Public: somePorts})
	p := ensure(t, n, hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}, Public: true})
	listen(t, &p, netip.IPv6Unspecified(), engine)
	listen(t, &p, netip.IPv6Unspecified(), engine+1)
	if len(p.Public) == 0 {
		t.Fatalf("no public endpoint: %+v", p)
	}
	port := p.Public[0].Port
	reaches(t, "public port over IPv4", o.connects(t, o.Host4, port, true))
	reaches(t, "public port over IPv6", o.connects(t, o.Host6, port, true))
	reaches(t, "public port from this machine", dial(o.Host4, port, anywhere, patience))
	reaches(t, "public port from this machine over IPv6", dial(o.Host6, port, anywhere, patience))
	reaches(t, "private address from this machine", dial(p.Address, engine, anywhere, patience))
	unreachable(t, "private address from outside", o.connects(t, p.Address, engine, false))
	unreachable(t, "another public port", o.connects(t, o.Host4, 21700+(port-21700+1)%4, false))
}

func publicGuest(t testing.TB, n *hostnet.Net, access ...string) (hostnet.Spec, hostnet.Ports) {
	t.Helper()
	s := hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}, Public: true, Access: prefixes(access)}
	p := ensure(t, n, s)
	if len(p.Public) == 0 {
		t.Fatalf("no public endpoint: %+v", p)
	}
	return s, p
}

// Who may connect is decided by the client's own address, in both families, and for packets of connections that are there already.
func TestPublicAccessRules(t *testing.T) { withBridgeFilter(t, publicAccessRules) }

func publicAccessRules(t *testing.T) {
	o := newOutside(t)
	n := open(t, hostnet.Config{Public: somePorts})
	s, p := publicGuest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	port := p.Public[0].Port
	range4, range6 := o.Client4.String()+"/32", netip.PrefixFrom(o.Client6, 64).Masked().String()
	for _, test := range []struct {
		name         string
		access       []string
		open4, open6 bool
	}{
		{"everybody", nil, true, true},
		{"somebody else", []string{"192.0.2.0/24", "2001:db8::/32"}, false, false},
		{"everybody with IPv4", []string{"0.0.0.0/0"}, true, false},
		{"everybody with IPv6", []string{"::/0"}, false, true},
		{"the client's IPv4 address", []string{"192.0.2.0/24", range4}, true, false},
		{"the client's IPv6 range", []string{"192.0.2.0/24", range6}, false, true},
		{"the client", []string{range4, range6}, true, true},
		{"this machine's address towards the client", []string{o.Host4.String() + "/32", o.Host6.String() + "/128"}, false, false},
		{"the bridge", []string{n.TenantHost().String() + "/32"}, false, false},
	} {
		s.Access = prefixes(test.access)
		if got := ensure(t, n, s); got.Public[0].Port != port {
			t.Errorf("%s: other rules gave another port: %+v", test.name, got)
		}
		for family, c := range map[string]struct {
			to   netip.Addr
			open bool
		}{"IPv4": {o.Host4, test.open4}, "IPv6": {o.Host6, test.open6}} {
			err := o.connects(t, c.to, port, c.open)
			if (err == nil) != c.open {
				t.Errorf("open to %s, over %s: %v, want open %v", test.name, family, err, c.open)
			}
		}
	}
}

// A change of the rules leaves connections alone that stay allowed, and cuts the others; so does the end of being public.
func TestPublicConnectionsFollowTheRules(t *testing.T) {
	o := newOutside(t)
	n := open(t, hostnet.Config{Public: somePorts})
	s, p := publicGuest(t, n)
	echo(t, p, engine)
	var c client
	if err := o.Do(func() error {
		c = connected(t, o.Host4, p.Public[0].Port)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name   string
		access []string
		public bool
		goesOn bool
	}{
		{"at first", nil, true, true},
		{"with a range around it", []string{o.Client4.String() + "/24", "2001:db8::/32"}, true, true},
		{"with somebody else's range", []string{"192.0.2.0/24"}, true, false},
		{"with its own again", []string{o.Client4.String() + "/32"}, true, true},
		{"not public", []string{o.Client4.String() + "/32"}, false, false},
		{"public again", nil, true, true},
	}
	for _, step := range steps {
		s.Access, s.Public = prefixes(step.access), step.public
		got := ensure(t, n, s)
		if step.public && (len(got.Public) == 0 || got.Public[0].Port != p.Public[0].Port) {
			t.Errorf("%s: endpoints %v, before %v", step.name, got.Public, p.Public)
		}
		if !step.public && len(got.Public) > 0 {
			t.Errorf("%s: endpoints %v", step.name, got.Public)
		}
		wait := blocked
		if step.goesOn {
			wait = 2 * patience // what was lost meanwhile is sent again after a while
		}
		if err := c.ping(wait); (err == nil) != step.goesOn {
			t.Errorf("%s: %v, want that it goes on: %v", step.name, err, step.goesOn)
		}
	}
}

func TestPublicPortsAreNotShared(t *testing.T) {
	newOutside(t) // by whose address instances are public
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state, Public: somePorts})
	other := open(t, hostnet.Config{Public: somePorts})
	ports := map[int]string{}
	note := func(p hostnet.Ports) {
		t.Helper()
		for _, port := range []int{p.Public[0].Port} {
			if had, taken := ports[port]; taken && had != p.Instance {
				t.Errorf("%s and %s both have port %d", had, p.Instance, port)
			}
			ports[port] = p.Instance
		}
	}
	s, first := publicGuest(t, n)
	note(first)
	_, second := publicGuest(t, other)
	note(second)
	_, third := publicGuest(t, n)
	note(third)
	_, fourth := publicGuest(t, other)
	note(fourth)
	_, err := n.EnsureInstance(t.Context(), hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}, Public: true})
	if trove.KindOf(err) != trove.KindOverLimit || !trove.IsPermanent(err) {
		t.Errorf("a fifth of four ports: %v, want over limit", err)
	}
	// What is not public any more keeps its port; what is removed does not.
	s.Public = false
	ensure(t, n, s)
	again, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}, Public: somePorts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	s.Public = true
	if got := ensure(t, again, s); got.Public[0].Port != first.Public[0].Port {
		t.Errorf("public again at %v, before at %v", got.Public, first.Public)
	}
	if err := other.RemoveInstance(t.Context(), second.Instance); err != nil {
		t.Fatal(err)
	}
	delete(ports, second.Public[0].Port)
	_, fifth := publicGuest(t, n)
	note(fifth)
}

// An instance that was public before the setting was taken away must still start; it is reached from this machine alone.
func TestWithoutPublicAddresses(t *testing.T) {
	o := newOutside(t)
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state, Public: somePorts})
	s, p := publicGuest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	reaches(t, "public port", o.connects(t, o.Host4, p.Public[0].Port, true))
	for _, c := range []struct {
		public hostnet.PublicConfig
		want   []hostnet.Endpoint
	}{{hostnet.PublicConfig{}, nil}, {somePorts, p.Public}} {
		again, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}, Public: c.public})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = again.Close() })
		if diff := cmp.Diff(c.want, ensure(t, again, s).Public, comparer); diff != "" {
			t.Errorf("endpoints (-want +got):\n%s", diff)
		}
		reaches(t, "private address", dial(p.Address, engine, anywhere, patience))
		if err := o.connects(t, o.Host4, p.Public[0].Port, len(c.want) > 0); (err == nil) != (len(c.want) > 0) {
			t.Errorf("public port with %+v: %v", c.public, err)
		}
	}
}

// An instance with addresses of its own is reached at the engine's port there, and nothing of this machine is.
func TestAddressesOfItsOwn(t *testing.T) {
	o := newOutside(t)
	pool4, pool6 := netip.MustParsePrefix("198.18.77.0/30"), netip.MustParsePrefix("fd5e:7e57:77::/120")
	n := open(t, hostnet.Config{Public: hostnet.PublicConfig{Pools: []netip.Prefix{pool4, pool6}, Interface: o.Device}})
	s, p := publicGuest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	listen(t, &p, netip.IPv6Unspecified(), engine+1)
	listen(t, nil, netip.IPv6Unspecified(), 0x7e57)
	if len(p.Public) != 2 || !pool4.Contains(p.Public[0].Address) || !pool6.Contains(p.Public[1].Address) {
		t.Fatalf("endpoints %v, want one of each pool", p.Public)
	}
	for _, e := range p.Public {
		reaches(t, "engine at "+e.Address.String(), o.connects(t, e.Address, engine, true))
		reaches(t, "engine from this machine at "+e.Address.String(), dial(e.Address, engine, anywhere, patience))
		unreachable(t, "another port of the guest at "+e.Address.String(), o.connects(t, e.Address, engine+1, false))
		unreachable(t, "a port of this machine at "+e.Address.String(), o.connects(t, e.Address, 0x7e57, false))
	}
	s.Access = prefixes([]string{"192.0.2.0/24", o.Client6.String() + "/128"})
	ensure(t, n, s)
	unreachable(t, "engine over IPv4 for somebody else", o.connects(t, p.Public[0].Address, engine, false))
	reaches(t, "engine over IPv6", o.connects(t, p.Public[1].Address, engine, true))
	s.Public = false
	ensure(t, n, s)
	for _, e := range p.Public {
		unreachable(t, "an instance that is not public", o.connects(t, e.Address, engine, false))
	}
	publicGuest(t, n)
	publicGuest(t, n)
	publicGuest(t, n)
	_, err := n.EnsureInstance(t.Context(), hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}, Public: true})
	if trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("a fifth of four addresses: %v, want over limit", err)
	}
	if err := hostnet.Destroy(t.Context(), n.State()); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(o.Device)
	if err != nil {
		t.Fatal(err)
	}
	left, err := hostnet.DumpAddresses(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range left {
		if ip, _ := netip.AddrFromSlice(a.IP); pool4.Contains(ip.Unmap()) || pool6.Contains(ip) {
			t.Errorf("%s is left on %s", ip, o.Device)
		}
	}
}

// This machine forwards what belongs to public instances, and nothing else: not between two others, not from a guest. Afterwards all is as before.
func TestNothingElseIsForwarded(t *testing.T) { withBridgeFilter(t, nothingElseIsForwarded) }

func nothingElseIsForwarded(t *testing.T) {
	a, b := newOutside(t), newOutside(t)
	before := forwarding(t, a, b)
	n := open(t, hostnet.Config{Public: somePorts})
	private := guest(t, n)
	if diff := cmp.Diff(before, forwarding(t, a, b)); diff != "" {
		t.Errorf("something is forwarded without a public instance:\n%s", diff)
	}
	s, p := publicGuest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	listen(t, &private, netip.IPv6Unspecified(), engine)
	b.listen(t, 0x7e58)
	reaches(t, "public instance", a.connects(t, a.Host4, p.Public[0].Port, true))
	reaches(t, "public instance at another address of this machine", a.connects(t, b.Host6, p.Public[0].Port, true))
	for _, to := range []netip.Addr{b.Client4, b.Client6} {
		unreachable(t, "another network through this machine", a.connects(t, to, 0x7e58, false))
		unreachable(t, "a network outside from a guest", fromGuest(t, p, to, 0x7e58, blocked))
	}
	for _, to := range []netip.Addr{p.Address, private.Address, p.Address6, private.Address6} {
		unreachable(t, "private address "+to.String(), a.connects(t, to, engine, false))
	}
	for _, to := range []netip.Addr{p.Management, n.HostAddress(), n.TenantHost()} {
		unreachable(t, "port of the engine at "+to.String(), a.connects(t, to, engine, false))
	}
	// A guest that answers connections that nobody opened reaches nobody.
	_, mac := n.Guest(p.Instance)
	_, bridge := n.Guest("bridge")
	sniffed := a.sniff(t)
	send(t, p, "eth0", ether(bridge, mac, 0x0800, segment(p.Address, a.Client4, engine, 50000, 0x10)))
	if sniffed.has(t, mark, blocked) {
		t.Error("a segment without a connection was forwarded to a client")
	}
	s.Public = false
	ensure(t, n, s)
	if diff := cmp.Diff(before, forwarding(t, a, b)); diff != "" {
		t.Errorf("forwarding is left after the last public instance:\n%s", diff)
	}
	s.Public = true
	ensure(t, n, s)
	if err := n.RemoveInstance(t.Context(), s.Instance); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, forwarding(t, a, b)); diff != "" {
		t.Errorf("forwarding is left after the removal of the last public instance:\n%s", diff)
	}
}

// forwarding returns what is forwarded between which interfaces.
func forwarding(t testing.TB, all ...outsider) map[string]string {
	t.Helper()
	paths := []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"}
	for _, o := range all {
		paths = append(paths, "ipv4/conf/"+o.Device+"/forwarding", "ipv6/conf/"+o.Device+"/force_forwarding", "ipv6/conf/"+o.Device+"/forwarding")
	}
	now := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile("/proc/sys/net/" + p)
		if err != nil {
			t.Fatal(err)
		}
		now[p] = strings.TrimSpace(string(text))
	}
	return now
}

func (o outsider) listen(t testing.TB, port int) {
	t.Helper()
	p := hostnet.Ports{Netns: o.Netns}
	listen(t, &p, netip.IPv6Unspecified(), port)
}

func (o outsider) sniff(t testing.TB) *capture {
	t.Helper()
	p := hostnet.Ports{Netns: o.Netns}
	return sniff(t, &p, "eth0")
}
