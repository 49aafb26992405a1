package hostnet_test

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// patience is how long something is waited for that must come about: a lost packet is sent again after 1 s, and after 3, and a busy machine may have others to serve.
const patience = 30 * time.Second

// withBridgeFilter runs the test with the inet filters called for bridged frames and without, where the machine has that switch.
func withBridgeFilter(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	const path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	before, err := os.ReadFile(path)
	if err != nil {
		t.Run("WithoutSwitch", run)
		return
	}
	t.Cleanup(func() { _ = os.WriteFile(path, before, 0) })
	for _, value := range []string{"0", "1"} {
		t.Run("CallIPTables"+value, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				t.Skipf("the switch cannot be written here: %v", err)
			}
			run(t)
		})
	}
}

func TestWhoReachesWhom(t *testing.T) { withBridgeFilter(t, whoReachesWhom) }

func whoReachesWhom(t *testing.T) {
	n := open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, n)
	for _, p := range []*hostnet.Ports{&a, &b} {
		for _, port := range []int{engine, engine + 1, controller} {
			listen(t, p, anywhereIn4, port)
		}
	}
	listen(t, nil, n.HostAddress(), controller)
	listen(t, nil, n.HostAddress(), controller+1)
	listen(t, nil, n.TenantHost(), controller)
	listen(t, nil, n.TenantHost(), engine)

	reaches(t, "engine from the host", dial(a.Address, engine, anywhere, patience))
	reaches(t, "engine from the host, other guest", dial(b.Address, engine, anywhere, patience))
	reaches(t, "controller from a guest", fromGuest(t, a, n.HostAddress(), controller, patience))
	unreachable(t, "another port of the guest", dial(a.Address, engine+1, anywhere, blocked))
	unreachable(t, "guest on its management address", dial(a.Management, engine, anywhere, blocked))
	unreachable(t, "guest on its management address at the controllers' port", dial(a.Management, controller, anywhere, blocked))
	unreachable(t, "another port of the host", fromGuest(t, a, n.HostAddress(), controller+1, blocked))
	unreachable(t, "host on the tenant network", fromGuest(t, a, n.TenantHost(), controller, blocked))
	unreachable(t, "host on the tenant network at the engine's port", fromGuest(t, a, n.TenantHost(), engine, blocked))
	unreachable(t, "neighbour on the tenant network", fromGuest(t, a, b.Address, engine, blocked))
	unreachable(t, "neighbour on the management network", fromGuest(t, a, b.Management, engine, blocked))
	unreachable(t, "neighbour at the controllers' port", fromGuest(t, a, b.Management, controller, blocked))
	// A guest with root adds routes that it should not have.
	in(t, a, func() error { return addRoute("10.0.0.0/8", n.TenantHost()) })
	in(t, a, func() error { return addRoute("0.0.0.0/0", n.HostAddress()) })
	in(t, a, func() error { return addNeighbour("eth0", b.Address, macOf(n, b)) })
	unreachable(t, "neighbour by route", fromGuest(t, a, b.Address, engine, blocked))
	other := hostAddress(t)
	if other.IsValid() {
		listen(t, nil, other, 0x7e57)
		unreachable(t, "another address of the host", fromGuest(t, a, other, 0x7e57, blocked))
	}
}

func TestAllowedRanges(t *testing.T) { withBridgeFilter(t, allowedRanges) }

func allowedRanges(t *testing.T) {
	n := open(t, hostnet.Config{})
	host := n.TenantHost().String()
	p := guest(t, n)
	listen(t, &p, anywhereIn4, engine)
	listen(t, &p, anywhereIn4, engine+1)
	spec := hostnet.Spec{Instance: p.Instance, TCPPorts: []int{engine}}
	for _, test := range []struct {
		name   string
		access []string
		open   bool
	}{
		{"everybody", nil, true},
		{"somebody else", []string{"192.0.2.0/24"}, false},
		{"the host", []string{host + "/32"}, true},
		{"somebody else and the host", []string{"192.0.2.0/24", host + "/20", host + "/32"}, true},
		{"only IPv6", []string{"::/0"}, false},
		{"everybody again", []string{"0.0.0.0/0"}, true},
	} {
		spec.Access = prefixes(test.access)
		got := ensure(t, n, spec)
		if got.Address != p.Address || got.Netns != p.Netns {
			t.Errorf("%s: other rules made another attachment: %+v", test.name, got)
		}
		if test.open {
			reaches(t, "engine open to "+test.name, dial(p.Address, engine, anywhere, patience))
		} else {
			unreachable(t, "engine open to "+test.name, dial(p.Address, engine, anywhere, blocked))
		}
	}
	unreachable(t, "a port that is not open", dial(p.Address, engine+1, anywhere, blocked))
	spec.TCPPorts = []int{engine + 1}
	ensure(t, n, spec)
	reaches(t, "the new port", dial(p.Address, engine+1, anywhere, patience))
	unreachable(t, "the old port", dial(p.Address, engine, anywhere, blocked))
}

// A connection that new rules do not allow is cut: nothing is remembered of connections.
func TestNewRulesCutConnections(t *testing.T) {
	n := open(t, hostnet.Config{})
	p := guest(t, n)
	echo(t, p, engine)
	c := connected(t, p.Address, engine)
	if err := c.ping(patience); err != nil {
		t.Fatalf("before: %v", err)
	}
	spec := hostnet.Spec{Instance: p.Instance, TCPPorts: []int{engine}, Access: prefixes([]string{"192.0.2.0/24"})}
	ensure(t, n, spec)
	if err := c.ping(blocked); err == nil {
		t.Error("a connection goes on that the new rules do not allow")
	}
	spec.Access = nil
	ensure(t, n, spec)
	if _, err := n.FindInstance(t.Context(), p.Instance); err != nil {
		t.Errorf("FindInstance: %v", err)
	}
}

// What goes on between guests and clients is not disturbed when the deployment is opened again or repaired.
func TestConnectionsSurviveReopening(t *testing.T) {
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state})
	p := guest(t, n)
	echo(t, p, engine)
	c := connected(t, p.Address, engine)
	for range 5 {
		again, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.ping(patience); err != nil {
			t.Fatalf("after Open and Repair: %v", err)
		}
	}
}

// Over IPv6 a guest reaches nobody either, whatever addresses, routes and neighbours it gives itself, and is reached at the engine's port alone.
func TestWhoReachesWhomOverIPv6(t *testing.T) { withBridgeFilter(t, whoReachesWhomOverIPv6) }

func whoReachesWhomOverIPv6(t *testing.T) {
	n := open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, n)
	everywhere := netip.IPv6Unspecified()
	listen(t, &b, everywhere, engine)
	listen(t, &b, everywhere, engine+1)
	listen(t, nil, everywhere, 0x7e59)
	reaches(t, "engine from the host", dial(b.Address6, engine, anywhere, patience))
	unreachable(t, "another port of the guest", dial(b.Address6, engine+1, anywhere, blocked))
	in(t, a, func() error { return addNeighbour("eth0", b.Address6, macOf(n, b)) })
	unreachable(t, "neighbour", fromGuest(t, a, b.Address6, engine, blocked))
	unreachable(t, "host on the tenant network", fromGuest(t, a, n.TenantHost6(), 0x7e59, blocked))

	// Link-local addresses that both give themselves, on both networks.
	mine, other := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")
	for _, device := range []string{"eth0", "mgmt0"} {
		for p, ip := range map[*hostnet.Ports]netip.Addr{&a: mine, &b: other} {
			in(t, *p, func() error { return addAddress(device, netip.PrefixFrom(ip, 64)) })
		}
		in(t, a, func() error {
			_, mac := n.Guest(b.Instance)
			if device == "mgmt0" {
				mac, _ = n.Guest(b.Instance)
			}
			return addNeighbour(device, other, mac)
		})
		unreachable(t, "neighbour by link-local address on "+device, fromGuest(t, a, other.WithZone(device), engine, blocked))
		unreachable(t, "engine by link-local address on "+device+" from the host", dial(other.WithZone(tenantOf(n)), engine, anywhere, blocked))
	}
}

// A guest that routes everything to the host reaches none of the host's addresses: not those of other deployments, not the one where clouds have
// metadata, and none of an outside network.
func TestNoAddressOfTheHost(t *testing.T) { withBridgeFilter(t, noAddressOfTheHost) }

func noAddressOfTheHost(t *testing.T) {
	const port = 0x7e5a
	o := newOutside(t)
	metadata := netip.MustParseAddr("169.254.169.254")
	if err := addAddress(o.Device, netip.PrefixFrom(metadata, 32)); err != nil {
		t.Fatal(err)
	}
	n, other := open(t, hostnet.Config{}), open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, other)
	listen(t, nil, netip.IPv6Unspecified(), port)
	listen(t, &b, netip.IPv6Unspecified(), engine)
	o.listen(t, port)
	reaches(t, "metadata address from the host", dial(metadata, port, anywhere, patience))
	for _, route := range []struct{ v4, v6 netip.Addr }{{n.TenantHost(), n.TenantHost6()}, {n.HostAddress(), n.TenantHost6()}} {
		in(t, a, func() error {
			for to, via := range map[string]netip.Addr{"0.0.0.0/0": route.v4, "::/0": route.v6} {
				if err := addRoute(to, via); err != nil {
					return err
				}
			}
			return nil
		})
		for _, ip := range []netip.Addr{
			metadata, o.Host4, o.Host6, o.Client4, o.Client6, n.HostAddress(), n.TenantHost(), n.TenantHost6(), other.HostAddress(), other.TenantHost(), other.TenantHost6(),
		} {
			unreachable(t, ip.String()+" by "+route.v4.String(), fromGuest(t, a, ip, port, blocked))
		}
		for _, ip := range []netip.Addr{b.Address, b.Address6} {
			unreachable(t, "guest of another deployment at "+ip.String(), fromGuest(t, a, ip, engine, blocked))
		}
	}
}
