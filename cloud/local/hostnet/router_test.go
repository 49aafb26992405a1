package hostnet_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// ofItsOwn runs the rest of the test in a process with a network of its own, where settings of the whole machine can be changed. It is true there.
func ofItsOwn(t *testing.T) bool {
	t.Helper()
	const sign = "TROVE_TEST_OWN_NETWORK"
	if os.Getenv(sign) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), sign+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a network of its own: %v\n%s", err, out)
	}
	return false
}

func set(t testing.TB, path, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// On a machine that is a router for others nothing is switched, what it routed it still routes, and guests get no more than elsewhere.
func TestOnARouter(t *testing.T) {
	if !ofItsOwn(t) {
		return
	}
	link(t, "lo", netlink.LinkSetUp)
	set(t, "ipv4/ip_forward", "1")
	set(t, "ipv6/conf/all/forwarding", "1")
	a, b := newOutside(t), newOutside(t)
	n := open(t, hostnet.Config{Public: somePorts})
	before := forwarding(t, a, b)
	_, p := publicGuest(t, n, a.Client4.String()+"/32", a.Client6.String()+"/128")
	private := guest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	listen(t, &private, netip.IPv6Unspecified(), engine)
	b.listen(t, 0x7e5b)
	if diff := cmp.Diff(before, forwarding(t, a, b)); diff != "" {
		t.Errorf("settings of a router were changed:\n%s", diff)
	}
	for _, ip := range []netip.Addr{a.Host4, a.Host6, b.Host4} {
		reaches(t, "public instance at "+ip.String(), a.connects(t, ip, p.Public[0].Port, true))
		unreachable(t, "public instance at "+ip.String()+" for somebody else", b.connects(t, ip, p.Public[0].Port, false))
	}
	for _, ip := range []netip.Addr{b.Client4, b.Client6} {
		reaches(t, "what the router routes", a.connects(t, ip, 0x7e5b, true))
		unreachable(t, "outside from a guest", fromGuest(t, p, ip, 0x7e5b, blocked))
	}
	for _, ip := range []netip.Addr{p.Address, p.Address6, private.Address, private.Address6, p.Management} {
		unreachable(t, "private address "+ip.String(), a.connects(t, ip, engine, false))
	}
}

// A flush of everything, as a restart of nftables.service does it, is mended within a second or two. Connections from outside go on.
func TestEverythingFlushed(t *testing.T) {
	if !ofItsOwn(t) {
		return
	}
	link(t, "lo", netlink.LinkSetUp)
	o := newOutside(t)
	n := open(t, hostnet.Config{Public: somePorts})
	_, p := publicGuest(t, n)
	echo(t, p, engine)
	var c client
	if err := o.Do(func() error {
		c = connected(t, o.Host4, p.Public[0].Port)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w := watch(t, n)
	for i := range 3 {
		w.mu.Lock()
		w.mended = nil
		w.mu.Unlock()
		began := time.Now()
		nft(t, "flush", "ruleset")
		eventually(t, "the rules are there again", func() bool { return rules(n) != "" })
		t.Logf("flush %d: mended after %v", i+1, time.Since(began).Round(10*time.Millisecond))
		eventually(t, "the flush is told", func() bool { return w.saw("filter", "") })
		if err := c.ping(2 * patience); err != nil {
			t.Errorf("after flush %d: %v", i+1, err)
		}
	}
	unreachable(t, "a port of the host from a guest after a flush", fromGuest(t, p, n.TenantHost(), controller, blocked))
}
