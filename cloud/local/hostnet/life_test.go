package hostnet_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

var comparer = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func TestInstanceIsMadeOnceFoundAndRemoved(t *testing.T) {
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state})
	before := left(t, n)
	id := trove.NewID()
	if _, err := n.FindInstance(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("FindInstance before: %v, want not found", err)
	}
	s := hostnet.Spec{Instance: id, TCPPorts: []int{engine}, Access: prefixes([]string{"10.0.0.0/8"})}
	first := ensure(t, n, s)
	another, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = another.Close() })
	found, err := another.FindInstance(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]hostnet.Ports{first, first}, []hostnet.Ports{ensure(t, another, s), found}, comparer); diff != "" {
		t.Errorf("another Net has another attachment (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := another.RemoveInstance(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := n.FindInstance(t.Context(), id); !trove.IsNotFound(err) {
			t.Errorf("FindInstance after: %v, want not found", err)
		}
	}
	eventually(t, "the removal of the interfaces", func() bool { return cmp.Equal(before, left(t, n)) })
	if chains := ruleset(t, n); strings.Contains(chains, "from-") || strings.Contains(chains, "to-") {
		t.Errorf("rules left after the removal:\n%s", chains)
	}
	if noted := neighbours(t, n); len(noted) != 0 {
		t.Errorf("addresses noted after the removal: %v", noted)
	}
	if err := n.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rest := left(t, n); len(rest) != 0 {
		t.Errorf("left after Destroy: %v", rest)
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) != 0 {
		t.Errorf("left in the state directory after Destroy: %v, %v", entries, err)
	}
}

// An instance that is removed and made again at once works, though the kernel may still be removing the first one's interfaces.
// TestWhatNoFileKnowsIsKeptOnRequest: after a restore the network of an instance that is younger than the export stays, and nobody gets its addresses.
func TestWhatNoFileKnowsIsKeptOnRequest(t *testing.T) {
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state})
	unknown := trove.NewID()
	ports, err := n.EnsureInstance(t.Context(), hostnet.Spec{Instance: unknown, TCPPorts: []int{3306}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(state, "network")); err != nil {
		t.Fatal(err)
	}
	again, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}, KeepUnknown: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if _, err := os.Stat(ports.Netns); err != nil {
		t.Errorf("its namespace: %v", err)
	}
	if _, err := again.EnsureInstance(t.Context(), hostnet.Spec{Instance: trove.NewID(), Address: ports.Address, TCPPorts: []int{3306}}); err == nil {
		t.Errorf("the address %s was given away", ports.Address)
	}
	if err := n.Repair(t.Context()); err != nil { // one that keeps nothing
		t.Fatal(err)
	}
	if _, err := os.Stat(ports.Netns); !os.IsNotExist(err) {
		t.Errorf("without the request its namespace stays: %v", err)
	}
}

func TestRemovedAndMadeAgainAtOnce(t *testing.T) {
	n := open(t, hostnet.Config{})
	listen(t, nil, n.HostAddress(), controller)
	s := hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}}
	first := ensure(t, n, s)
	for range 5 {
		if err := n.RemoveInstance(t.Context(), s.Instance); err != nil {
			t.Fatal(err)
		}
		p := ensure(t, n, s)
		reaches(t, "controller", fromGuest(t, p, n.HostAddress(), controller, patience))
		if p.Address != first.Address {
			t.Errorf("address %s, then %s", first.Address, p.Address)
		}
	}
}

// Everything that a killed call, a restart of the machine or an administrator can have left is put right.
func TestDamageIsRepaired(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, n *hostnet.Net, p hostnet.Ports){
		"filter flushed": func(t *testing.T, n *hostnet.Net, _ hostnet.Ports) {
			_, _, table, _ := n.Names()
			run(t, "nft", "delete", "table", "bridge", table)
			run(t, "nft", "delete", "table", "inet", table)
		},
		"port removed": func(t *testing.T, n *hostnet.Net, p hostnet.Ports) {
			if err := hostnet.Inside(p.Netns, func() error { return del("eth0") }); err != nil {
				t.Fatal(err)
			}
		},
		"bridge removed": func(t *testing.T, n *hostnet.Net, _ hostnet.Ports) {
			management, _, _, _ := n.Names()
			if err := del(management); err != nil {
				t.Fatal(err)
			}
		},
		"namespace unbound": func(t *testing.T, _ *hostnet.Net, p hostnet.Ports) { run(t, "umount", p.Netns) },
		"address removed": func(t *testing.T, _ *hostnet.Net, p hostnet.Ports) {
			run(t, "nsenter", "--net="+p.Netns, "ip", "address", "flush", "dev", "eth0")
		},
		"interface down": func(t *testing.T, _ *hostnet.Net, p hostnet.Ports) {
			run(t, "nsenter", "--net="+p.Netns, "ip", "link", "set", "eth0", "down")
		},
		"everything but the files": func(t *testing.T, n *hostnet.Net, p hostnet.Ports) {
			management, tenant, table, _ := n.Names()
			run(t, "umount", p.Netns)
			run(t, "ip", "link", "del", management)
			run(t, "ip", "link", "del", tenant)
			run(t, "nft", "delete", "table", "bridge", table)
			run(t, "nft", "delete", "table", "inet", table)
			if err := os.RemoveAll(filepath.Dir(filepath.Dir(p.Netns))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			n := open(t, hostnet.Config{State: state})
			p := guest(t, n)
			damage(t, n, p)
			again, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = again.Close() })
			if diff := cmp.Diff([]netip.Prefix{n.ManagementSubnet(), n.TenantSubnet()}, []netip.Prefix{again.ManagementSubnet(), again.TenantSubnet()}, comparer); diff != "" {
				t.Errorf("other ranges (-before +after):\n%s", diff)
			}
			found, err := again.FindInstance(t.Context(), p.Instance)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, found, comparer); diff != "" {
				t.Errorf("another attachment (-before +after):\n%s", diff)
			}
			listen(t, nil, again.HostAddress(), controller)
			listen(t, &p, anywhereIn4, engine)
			reaches(t, "controller", fromGuest(t, p, again.HostAddress(), controller, patience))
			reaches(t, "engine", dial(p.Address, engine, anywhere, patience))
		})
	}
}

// The filter is made again with the next change, without an Open between.
func TestFilterIsMadeAgainWhenItIsMissing(t *testing.T) {
	n := open(t, hostnet.Config{})
	a := guest(t, n)
	listen(t, &a, anywhereIn4, engine+1)
	_, _, table, _ := n.Names()
	for _, change := range []func(){func() { guest(t, n) }, func() {
		if err := n.RemoveInstance(t.Context(), trove.NewID()); err != nil {
			t.Fatal(err)
		}
		guest(t, n)
	}} {
		run(t, "nft", "delete", "table", "bridge", table)
		reaches(t, "any port without filters", dial(a.Address, engine+1, anywhere, patience))
		change()
		unreachable(t, "a port that is not open", dial(a.Address, engine+1, anywhere, blocked))
	}
}

func TestTwoDeploymentsSideBySide(t *testing.T) {
	one, two := open(t, hostnet.Config{}), open(t, hostnet.Config{})
	all := []netip.Prefix{one.ManagementSubnet(), one.TenantSubnet(), two.ManagementSubnet(), two.TenantSubnet()}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Overlaps(b) {
				t.Errorf("ranges %s and %s overlap", a, b)
			}
		}
	}
	a, b := guest(t, one), guest(t, two)
	listen(t, &a, anywhereIn4, engine)
	listen(t, &b, anywhereIn4, engine)
	listen(t, nil, two.HostAddress(), controller)
	unreachable(t, "guest of another deployment", fromGuest(t, a, b.Address, engine, blocked))
	unreachable(t, "controller of another deployment", fromGuest(t, a, two.HostAddress(), controller, blocked))
	in(t, a, func() error { return addRoute("10.0.0.0/8", one.TenantHost()) })
	in(t, a, func() error { return addRoute("172.16.0.0/12", one.TenantHost()) })
	unreachable(t, "guest of another deployment by route", fromGuest(t, a, b.Address, engine, blocked))
	unreachable(t, "controller of another deployment by route", fromGuest(t, a, two.HostAddress(), controller, blocked))
	if err := one.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	reaches(t, "engine after the other deployment was destroyed", dial(b.Address, engine, anywhere, patience))
	reaches(t, "controller after the other deployment was destroyed", fromGuest(t, b, two.HostAddress(), controller, patience))
	if rest := left(t, one); len(rest) != 0 {
		t.Errorf("left of the destroyed deployment: %v", rest)
	}
}

func TestAtOnce(t *testing.T) {
	state := t.TempDir()
	nets := []*hostnet.Net{open(t, hostnet.Config{State: state})}
	second, err := hostnet.Open(t.Context(), hostnet.Config{State: state, ControllerPorts: []int{controller}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	nets = append(nets, second)
	ids := []string{trove.NewID(), trove.NewID(), trove.NewID(), trove.NewID()}
	got := make([]hostnet.Ports, 16)
	errs := make([]error, len(got))
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			got[i], errs[i] = nets[i%2].EnsureInstance(t.Context(), hostnet.Spec{Instance: ids[i/2%4], TCPPorts: []int{engine}})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]netip.Addr{}
	owners := map[netip.Addr]string{}
	for _, p := range got {
		if a, ok := addresses[p.Instance]; ok && a != p.Address {
			t.Errorf("instance %s has the addresses %s and %s", p.Instance, a, p.Address)
		}
		if o, ok := owners[p.Address]; ok && o != p.Instance {
			t.Errorf("instances %s and %s have the address %s", o, p.Instance, p.Address)
		}
		addresses[p.Instance], owners[p.Address] = p.Address, p.Instance
	}
	all, err := nets[1].Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, p := range all {
		listed = append(listed, p.Instance)
	}
	slices.Sort(ids)
	if diff := cmp.Diff(ids, listed); diff != "" {
		t.Errorf("Instances (-want +got):\n%s", diff)
	}
}

func TestBadSpecsAndCancelledContexts(t *testing.T) {
	n := open(t, hostnet.Config{})
	for _, s := range []hostnet.Spec{{Instance: "../x"}, {}, {Instance: trove.NewID(), TCPPorts: []int{0}}, {Instance: trove.NewID(), Access: []netip.Prefix{{}}}} {
		if _, err := n.EnsureInstance(t.Context(), s); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("EnsureInstance(%+v): %v, want bad request", s, err)
		}
	}
	if err := n.RemoveInstance(t.Context(), "../x"); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("RemoveInstance: %v, want bad request", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id := trove.NewID()
	if _, err := n.EnsureInstance(ctx, hostnet.Spec{Instance: id}); !errors.Is(err, context.Canceled) {
		t.Errorf("EnsureInstance: %v, want canceled", err)
	}
	if _, err := n.FindInstance(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("FindInstance: %v, want not found", err)
	}
}

// The guest has no IPv6, no route but to its networks, and nothing but its interfaces.
func TestWhatAGuestSees(t *testing.T) {
	n := open(t, hostnet.Config{})
	p := guest(t, n)
	var links []string
	var routes []string
	in(t, p, func() error {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range all {
			addresses, err := i.Addrs()
			if err != nil {
				return err
			}
			text := i.Name + " " + strings.TrimSuffix(i.Flags.String()[:2], "|")
			for _, a := range addresses {
				text += " " + a.String()
			}
			links = append(links, text)
		}
		found, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		for _, r := range found {
			routes = append(routes, r.Dst.String())
		}
		return err
	})
	slices.Sort(links)
	slices.Sort(routes)
	want := []string{"eth0 up " + p.Address.String() + "/20 " + p.Address6.String() + "/64", "lo up 127.0.0.1/8", "mgmt0 up " + p.Management.String() + "/20"}
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
	wantRoutes := []string{
		n.ManagementSubnet().String(), n.TenantSubnet().String(), "0.0.0.0/0", "::/0", netip.PrefixFrom(p.Address6, 64).Masked().String(),
	}
	slices.Sort(wantRoutes)
	if diff := cmp.Diff(wantRoutes, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestProbe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("bridges and packet filters need root")
	}
	// Tests of other packages make interfaces on this machine at the same time, and the firewall below would shut out their guests.
	if !ofItsOwn(t) {
		return
	}
	link(t, "lo", netlink.LinkSetUp)
	count := func() int {
		links, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		scratch := 0
		for _, l := range links {
			if strings.HasPrefix(l.Name, "tv") {
				scratch++
			}
		}
		return scratch
	}
	before := count()
	if err := hostnet.Probe(t.Context()); err != nil {
		t.Errorf("Probe on a machine where the other tests work: %v", err)
	}
	if got := count(); got > before {
		t.Errorf("%d interfaces before the probe, %d after", before, got)
	}
	// A firewall of somebody else that lets nothing in from our interfaces.
	rules := `table inet probetest { chain incoming { type filter hook input priority 10; iifname "tv*" tcp dport 4222 drop; }; }`
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	defer run(t, "nft", "delete", "table", "inet", "probetest")
	err := hostnet.Probe(t.Context())
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "probetest") {
		t.Errorf("Probe behind a firewall: %v, want a sentence that names the table probetest", err)
	}
}

func TestDumpTriesAgain(t *testing.T) {
	calls := 0
	got, err := hostnet.Dump(func() ([]int, error) {
		calls++
		if calls < 4 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if diff := cmp.Diff([]int{1, 2}, got); diff != "" || err != nil {
		t.Errorf("Dump: %v (-want +got):\n%s", err, diff)
	}
	if _, err := hostnet.Dump(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("Dump that is always interrupted: %v", err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func del(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func ruleset(t *testing.T, n *hostnet.Net) string {
	t.Helper()
	_, _, table, _ := n.Names()
	out, err := exec.CommandContext(t.Context(), "nft", "list", "table", "bridge", table).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// neighbours returns what the host noted for good on the deployment's bridges.
func neighbours(t *testing.T, n *hostnet.Net) []string {
	t.Helper()
	management, tenant, _, _ := n.Names()
	var all []string
	for _, bridge := range []string{management, tenant} {
		out, err := exec.CommandContext(t.Context(), "ip", "-json", "neighbour", "show", "dev", bridge, "nud", "permanent").Output()
		if err != nil {
			t.Fatal(err)
		}
		var found []struct {
			Dst string `json:"dst"`
		}
		if err := json.Unmarshal(out, &found); err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			all = append(all, f.Dst)
		}
	}
	return all
}
