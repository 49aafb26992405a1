package hostnet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/tests/outside"
)

func TestMain(m *testing.M) {
	outside.LeaveNetwork()
	goleak.VerifyTestMain(m)
}

const (
	controller = 4222
	engine     = 3306
)

// open opens a network in a state directory that is destroyed when the test ends.
func open(t testing.TB, c hostnet.Config) *hostnet.Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("bridges and packet filters need root")
	}
	if c.State == "" {
		c.State = t.TempDir()
	}
	t.Cleanup(func() {
		if err := hostnet.Destroy(context.Background(), c.State); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	})
	if c.ControllerPorts == nil {
		c.ControllerPorts = []int{controller}
	}
	n, err := hostnet.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// guest makes an instance.
func guest(t testing.TB, n *hostnet.Net, access ...string) hostnet.Ports {
	t.Helper()
	s := hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}}
	for _, text := range access {
		s.Access = append(s.Access, netip.MustParsePrefix(text))
	}
	return ensure(t, n, s)
}

func ensure(t testing.TB, n *hostnet.Net, s hostnet.Spec) hostnet.Ports {
	t.Helper()
	p, err := n.EnsureInstance(t.Context(), s)
	if err != nil {
		t.Fatalf("EnsureInstance: %v", err)
	}
	return p
}

// in runs f in the guest's network namespace.
func in(t testing.TB, p hostnet.Ports, f func() error) {
	t.Helper()
	if err := hostnet.Inside(p.Netns, f); err != nil {
		t.Fatalf("in the guest %s: %v", p.Address, err)
	}
}

// listen listens on all addresses, in the guest p or, for nil, on the host's address given, and answers each connection with a byte.
func listen(t testing.TB, p *hostnet.Ports, ip netip.Addr, port int) {
	t.Helper()
	var l net.Listener
	begin := func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
		return err
	}
	if p != nil {
		in(t, *p, begin)
	} else if err := begin(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{42})
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// blocked is how long a connection is tried that must not come about.
const blocked = 150 * time.Millisecond

// dial connects, from the address if it is valid, and reads the answer.
func dial(to netip.Addr, port int, from netip.Addr, wait time.Duration) error {
	d := net.Dialer{Timeout: wait}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	c, err := d.Dial("tcp", net.JoinHostPort(to.String(), strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	var answer [1]byte
	if _, err := c.Read(answer[:]); err != nil || answer[0] != 42 {
		return fmt.Errorf("read the answer: %w, %v", err, answer)
	}
	return nil
}

var anywhere netip.Addr

func reaches(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v, want it to be reached", what, err)
	}
}

func unreachable(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was reached, want it not to be", what)
	}
}

// fromGuest connects from a guest.
func fromGuest(t testing.TB, p hostnet.Ports, to netip.Addr, port int, wait time.Duration) error {
	t.Helper()
	var result error
	in(t, p, func() error {
		result = dial(to, port, anywhere, wait)
		return nil
	})
	return result
}

// send puts a whole frame on the guest's interface, whatever the guest's own addresses are.
func send(t testing.TB, p hostnet.Ports, device string, frame []byte) {
	t.Helper()
	in(t, p, func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
	})
}

// capture collects frames that arrive at an interface, in the guest p or, for nil, on the host.
type capture struct{ fd int }

func sniff(t testing.TB, p *hostnet.Ports, device string) *capture {
	t.Helper()
	c := &capture{}
	begin := func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all); err != nil {
			return err
		}
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	}
	if p != nil {
		in(t, *p, begin)
	} else if err := begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(c.fd) })
	return c
}

// has reports whether a frame that contains the mark arrives within the time.
func (c *capture) has(t testing.TB, mark string, wait time.Duration) bool {
	t.Helper()
	end := time.Now().Add(wait)
	buffer := make([]byte, 2048)
	for {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		tv := unix.NsecToTimeval(int64(left))
		if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		count, _, err := unix.Recvfrom(c.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return false
		}
		if strings.Contains(string(buffer[:count]), mark) {
			return true
		}
	}
}

// left returns what of the deployment the host still has.
func left(t testing.TB, n *hostnet.Net) []string {
	t.Helper()
	_, _, table, prefix := n.Names()
	var all []string
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		links, err = netlink.LinkList()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, prefix) {
			all = append(all, "interface "+l.Attrs().Name)
		}
	}
	tables, err := exec.CommandContext(t.Context(), "nft", "list", "tables").Output()
	if err != nil {
		t.Fatalf("nft list tables: %v", err)
	}
	for line := range strings.Lines(string(tables)) {
		if strings.Contains(line, table) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, strings.TrimPrefix(prefix, "tv")) {
			all = append(all, "mount "+strings.TrimSpace(line))
		}
	}
	if _, err := os.Stat("/run/trove-" + strings.TrimPrefix(prefix, "tv")); err == nil {
		all = append(all, "run directory")
	}
	return all
}

// eventually waits until done is true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for !done() {
		if clock.Sleep(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("%s did not happen", what)
		}
	}
}
