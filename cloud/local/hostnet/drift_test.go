package hostnet_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// watched runs Watch and keeps what it says.
type watched struct {
	mu      sync.Mutex
	mended  []hostnet.Drift
	dropped map[string]uint64 // by instance and reason
}

func watch(t testing.TB, n *hostnet.Net) *watched {
	t.Helper()
	w := &watched{dropped: map[string]uint64{}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- n.Watch(ctx, hostnet.Watcher{
			Mended: func(_ context.Context, d hostnet.Drift) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.mended = append(w.mended, d)
			},
			Dropped: func(_ context.Context, instance, reason string, frames uint64) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.dropped[instance+" "+reason] += frames
			},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	return w
}

func (w *watched) saw(what, instance string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.mended {
		if d.What == what && d.Instance == instance && strings.HasSuffix(d.Sentence, ".") {
			return true
		}
	}
	return false
}

func nft(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "nft", args...).CombinedOutput(); err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
}

// link does something with an interface of this machine.
func link(t testing.TB, name string, f func(netlink.Link) error) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = f(l)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Whatever somebody does to the host's network is noticed and mended, and told of, while connections go on.
func TestDriftIsMended(t *testing.T) {
	o := newOutside(t)
	metrics := prometheus.NewRegistry()
	n := open(t, hostnet.Config{Public: somePorts, Metrics: metrics})
	s, p := publicGuest(t, n)
	listen(t, &p, anywhereIn4, engine)
	management, tenant, table, _ := n.Names()
	mPort, tPort := n.HostPorts(t, s.Instance)
	if _, err := n.Check(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	w := watch(t, n)
	for _, test := range []struct {
		name     string
		what     string
		instance string
		harm     func()
		mended   func() bool
	}{
		{"both tables removed", "filter", "", func() {
			nft(t, "delete table bridge "+table+"; delete table inet "+table)
		}, func() bool { return strings.Contains(rules(n), "from-"+tPort) }},
		{"rules flushed", "filter", "", func() { nft(t, "flush", "chain", "bridge", table, "from-"+tPort) }, func() bool {
			return strings.Contains(rules(n), `counter name "refused-`+tPort)
		}},
		{"a rule added", "filter", "", func() { nft(t, "insert", "rule", "inet", table, "input", "counter", "accept") }, func() bool {
			return !strings.Contains(rules(n), "counter packets")
		}},
		{"an element removed", "filter", "", func() { nft(t, "flush", "set", "inet", table, "guests4") }, func() bool {
			return strings.Contains(rules(n), "elements = { "+p.Address.String()+" }")
		}},
		{"a table asleep", "filter", "", func() { nft(t, "add", "table", "bridge", table, "{ flags dormant; }") }, func() bool {
			return !strings.Contains(rules(n), "dormant")
		}},
		{"a port that is not isolated", "port", s.Instance, func() {
			link(t, tPort, func(l netlink.Link) error { return netlink.LinkSetIsolated(l, false) })
		}, func() bool { return isolated(t, tPort) }},
		{"a port that is on no bridge", "port", s.Instance, func() { link(t, mPort, netlink.LinkSetNoMaster) }, func() bool {
			l, err := netlink.LinkByName(mPort)
			return err == nil && l.Attrs().MasterIndex != 0
		}},
		{"a port that is off", "port", s.Instance, func() { link(t, mPort, netlink.LinkSetDown) }, func() bool {
			l, err := netlink.LinkByName(mPort)
			return err == nil && l.Attrs().Flags&net.FlagUp != 0
		}},
		{"an interface removed", "port", s.Instance, func() { link(t, mPort, netlink.LinkDel) }, func() bool {
			return isolated(t, mPort)
		}},
		{"an address removed", "address", "", func() {
			link(t, tenant, func(l netlink.Link) error {
				all, err := hostnet.DumpAddresses(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V4) })
				if err != nil {
					return err
				}
				return netlink.AddrDel(l, &all[0])
			})
		}, func() bool { return dial(p.Address, engine, anywhere, blocked) == nil }},
		{"a bridge that is off", "bridge", "", func() { link(t, management, netlink.LinkSetDown) }, func() bool {
			l, err := netlink.LinkByName(management)
			return err == nil && l.Attrs().Flags&net.FlagUp != 0
		}},
		{"forwarding switched off", "forwarding", "", func() {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+o.Device+"/forwarding", []byte("0"), 0); err != nil {
				t.Fatal(err)
			}
			// The kernel tells nobody of settings: something else has to happen, or 10 s to pass.
			link(t, o.Device, func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1400) })
		}, func() bool { return forwarding(t, o)["ipv4/conf/"+o.Device+"/forwarding"] == "1" }},
	} {
		w.mu.Lock()
		w.mended = nil
		w.mu.Unlock()
		before := count(t, metrics, test.what)
		test.harm()
		began := time.Now()
		eventually(t, test.name+" is mended", test.mended)
		t.Logf("%s: mended after %v", test.name, time.Since(began).Round(10*time.Millisecond))
		eventually(t, test.name+" is told", func() bool { return w.saw(test.what, test.instance) })
		if now := count(t, metrics, test.what); now <= before {
			t.Errorf("%s: counted %v, before %v", test.name, now, before)
		}
	}
	reaches(t, "engine after all that", dial(p.Address, engine, anywhere, patience))
	reaches(t, "public port after all that", o.connects(t, o.Host4, p.Public[0].Port, true))
	if found, err := n.Check(t.Context(), true); err != nil || len(found) > 0 {
		t.Errorf("found %v, %v after everything was mended", found, err)
	}
}

// What others do with packet filters of their own is nothing to be mended, and our own changes are not either.
func TestOwnChangesAndThoseOfOthersAreNoDrift(t *testing.T) {
	n := open(t, hostnet.Config{})
	other := open(t, hostnet.Config{})
	for i := range 3 {
		guest(t, n)
		p := guest(t, other)
		if i == 1 {
			if err := other.RemoveInstance(t.Context(), p.Instance); err != nil {
				t.Fatal(err)
			}
		}
		for _, idle := range []bool{false, true} {
			if found, err := n.Check(t.Context(), idle); err != nil || len(found) > 0 {
				t.Errorf("found %v, %v", found, err)
			}
		}
	}
}

// Without any filter the ports of guests still do not pass frames to each other.
func TestPortsAreApartWithoutFilters(t *testing.T) { withBridgeFilter(t, portsAreApartWithoutFilters) }

func portsAreApartWithoutFilters(t *testing.T) {
	n := open(t, hostnet.Config{})
	a, b := guest(t, n), guest(t, n)
	_, _, table, _ := n.Names()
	nft(t, "delete table bridge "+table+"; delete table inet "+table)
	_, aT := n.Guest(a.Instance)
	_, bT := n.Guest(b.Instance)
	_, hostT := n.Guest("bridge")
	listen(t, &b, anywhereIn4, engine)
	// That the filters are gone is seen by a frame that they would drop.
	bridge, neighbour := sniff(t, nil, tenantOf(n)), sniff(t, &b, "eth0")
	send(t, a, "eth0", ether(hostT, aT, 0x88b5, []byte(mark)))
	if !bridge.has(t, mark, patience) {
		t.Fatal("the filters are still there")
	}
	in(t, a, func() error { return addNeighbour("eth0", b.Address, bT) })
	unreachable(t, "neighbour without filters", fromGuest(t, a, b.Address, engine, blocked))
	for _, to := range []net.HardwareAddr{bT, broadcast, {0x33, 0x33, 0, 0, 0, 1}} {
		send(t, a, "eth0", ether(to, aT, 0x0800, segment(a.Address, b.Address, 50000, engine, 2)))
	}
	if neighbour.has(t, mark, blocked) {
		t.Error("a frame of one guest arrived at another")
	}
}

func tenantOf(n *hostnet.Net) string {
	_, tenant, _, _ := n.Names()
	return tenant
}

func isolated(t testing.TB, name string) bool {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	info, err := netlink.LinkGetProtinfo(l)
	return err == nil && info.Isolated
}

func count(t testing.TB, g prometheus.Gatherer, what string) float64 {
	t.Helper()
	all, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == what {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// rules returns the deployment's tables as text, "" without them.
func rules(n *hostnet.Net) string {
	_, _, table, _ := n.Names()
	var all string
	for _, family := range []string{"bridge", "inet"} {
		out, err := exec.Command("nft", "list", "table", family, table).Output()
		if err != nil {
			return ""
		}
		all += string(out)
	}
	return all
}
