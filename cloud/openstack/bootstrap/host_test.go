package bootstrap_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/internal/clock"
)

// inNamespace gives the test a network of its own, on a thread that ends with it.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it makes network namespaces: needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("this machine makes no network namespaces: %v", err)
	}
	ip(t, "link", "set", "lo", "up")
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// guest is a namespace that a cable leads to.
type guest struct{ pid string }

// newGuest makes a namespace with an end of a cable, called g0, whose other end is called tap.
func newGuest(t *testing.T, tap, address string) guest {
	t.Helper()
	c := exec.Command("unshare", "--net", "sleep", "120")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	g := guest{fmt.Sprint(c.Process.Pid)}
	mine, _ := os.Readlink("/proc/thread-self/ns/net")
	for range 1000 { // until it is in its namespace
		if theirs, _ := os.Readlink("/proc/" + g.pid + "/ns/net"); theirs != mine && theirs != "" {
			break
		}
		_ = clock.Sleep(t.Context(), 10*time.Millisecond)
	}
	ip(t, "link", "add", "g0", "netns", g.pid, "type", "veth", "peer", "name", tap)
	ip(t, "link", "set", tap, "up")
	g.run(t, "ip", "link", "set", "g0", "up")
	g.run(t, "ip", "addr", "add", address, "dev", "g0")
	return g
}

func (g guest) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "nsenter", append([]string{"-t", g.pid, "-n"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// comesToReach waits until the guest can connect: a busy machine may need more than one attempt.
func (g guest) comesToReach(t *testing.T, host, port string) bool {
	t.Helper()
	for range 15 {
		if g.reaches(t, host, port) {
			return true
		}
	}
	return false
}

// reaches reports whether the guest can connect.
func (g guest) reaches(t *testing.T, host, port string) bool {
	t.Helper()
	script := fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", host, port)
	return exec.CommandContext(t.Context(), "nsenter", "-t", g.pid, "-n", "timeout", "2", "bash", "-c", script).Run() == nil
}

var (
	portA = bootstrap.Port{ID: "8a272957-4796-4f77-83f1-a9b0f06a2545", MAC: "fa:16:3e:06:60:4e"}
	portB = bootstrap.Port{ID: "11112222-4796-4f77-83f1-a9b0f06a2545", MAC: "fa:16:3e:06:60:4f"}
)

func TestInterfaceIsPluggedWhereTheAgentFindsItAndMadeAgain(t *testing.T) {
	inNamespace(t)
	m := bootstrap.Machine{File: filepath.Join(t.TempDir(), "interface.json")}
	if _, err := m.Restore(t.Context()); trove.KindOf(err) != trove.KindNotFound {
		t.Errorf("with nothing to restore: %v", err)
	}
	look := func(what string) {
		t.Helper()
		h, err := m.Network(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := bootstrap.HostAddress{Interface: "m0", Prefix: netip.MustParsePrefix("10.9.0.2/24")}
		if !slices.Contains(h.Addresses, want) {
			t.Errorf("%s: %+v", what, h)
		}
	}
	for range 2 { // it may be repeated
		if err := m.Plug(t.Context(), bootstrap.AgentLinuxBridge, "m0", portA, 1400, netip.MustParsePrefix("10.9.0.2/24")); err != nil {
			t.Fatal(err)
		}
		look("after plugging")
	}
	if shown := ip(t, "link", "show", "m0"); !strings.Contains(shown, "mtu 1400") || !strings.Contains(shown, portA.MAC) || !strings.Contains(shown, "tap8a272957-47") {
		t.Errorf("it is %s", shown)
	}
	ip(t, "link", "del", "m0")
	if made, err := m.Restore(t.Context()); err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	look("after restoring")
	if err := m.Plug(t.Context(), bootstrap.AgentLinuxBridge, "m0", portB, 1400, netip.MustParsePrefix("10.9.0.2/24")); err != nil {
		t.Fatalf("with another port: %v", err)
	}
	if shown := ip(t, "link"); strings.Contains(shown, "tap8a272957-47") || !strings.Contains(shown, "tap11112222-47") {
		t.Errorf("with another port there is %s", shown)
	}
	ip(t, "link", "add", "other", "type", "bridge")
	err := m.Plug(t.Context(), bootstrap.AgentLinuxBridge, "other", portA, 1400, netip.MustParsePrefix("10.9.0.2/24"))
	if trove.KindOf(err) != trove.KindConflict {
		t.Errorf("in place of an interface of somebody else: %v", err)
	}
}

// A guest of the same host reaches the controller by its port, which Neutron filters, and not by the bridge.
func TestNothingComesIntoTheHostByTheBridge(t *testing.T) {
	inNamespace(t)
	const bridge = "brq5dbdef17-8e"
	m := bootstrap.Machine{File: filepath.Join(t.TempDir(), "interface.json")}
	if err := m.Plug(t.Context(), bootstrap.AgentLinuxBridge, "m0", portA, 0, netip.MustParsePrefix("10.9.0.2/24")); err != nil {
		t.Fatal(err)
	}
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "link", "set", bridge, "up")
	g := newGuest(t, "tapguest", "10.9.0.20/24")
	for _, l := range []string{"tapguest", "tap8a272957-47"} {
		ip(t, "link", "set", l, "master", bridge)
	}
	l, err := net.Listen("tcp4", "10.9.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, after, _ := strings.Cut(ip(t, "-o", "link", "show", bridge), "link/ether ")
	mac, _, _ := strings.Cut(after, " ")
	byBridge := func(reaches func(*testing.T, string, string) bool) bool { // as a guest does that does not ask who has the address
		g.run(t, "ip", "neigh", "replace", "10.9.0.2", "lladdr", mac, "dev", "g0")
		defer g.run(t, "ip", "neigh", "del", "10.9.0.2", "dev", "g0")
		return reaches(t, "10.9.0.2", port)
	}
	if !byBridge(g.comesToReach) {
		t.Fatal("without a guard the bridge lets nothing in either: the test shows nothing")
	}
	for range 2 {
		if err := m.Guard(t.Context(), bridge); err != nil {
			t.Fatal(err)
		}
	}
	if byBridge(g.reaches) {
		t.Error("it came in by the bridge")
	}
	if !g.comesToReach(t, "10.9.0.2", port) {
		t.Error("it did not come in by the port")
	}
	h, err := m.Network(t.Context())
	if err != nil || !h.Bridges || !slices.Equal(h.Guarded, []string{bridge}) {
		t.Errorf("%+v %v", h, err)
	}
}
