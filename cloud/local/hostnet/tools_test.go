package hostnet_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

var anywhereIn4 = netip.IPv4Unspecified()

func prefixes(all []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range all {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func macOf(n *hostnet.Net, p hostnet.Ports) net.HardwareAddr {
	_, mac := n.Guest(p.Instance)
	return mac
}

// addRoute adds a route in the calling thread's namespace.
func addRoute(to string, via netip.Addr) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: via.AsSlice()})
}

// addNeighbour notes an address in the calling thread's namespace.
func addNeighbour(device string, ip netip.Addr, mac net.HardwareAddr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac})
}

// hostAddress returns an address of the host that is on none of our bridges, an invalid one if it has none.
func hostAddress(t testing.TB) netip.Addr {
	t.Helper()
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Fatal(err)
	}
	for _, a := range all {
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil || a.IP.IsLoopback() || strings.HasPrefix(link.Attrs().Name, "tv") {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			return ip
		}
	}
	return netip.Addr{}
}

// echo returns what it gets, in the guest.
func echo(t testing.TB, p hostnet.Ports, port int) {
	t.Helper()
	var l net.Listener
	in(t, p, func() (err error) {
		l, err = net.Listen("tcp4", ":"+strconv.Itoa(port))
		return err
	})
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			_, _ = io.Copy(c, c)
		}()
		<-stop
		_ = c.Close()
		<-copied
	}()
	t.Cleanup(func() {
		close(stop)
		_ = l.Close()
		<-done
	})
}

type client struct {
	net.Conn
	owed int // bytes that did not come back yet
}

func connected(t testing.TB, ip netip.Addr, port int) client {
	t.Helper()
	c, err := net.DialTimeout("tcp4", net.JoinHostPort(ip.String(), strconv.Itoa(port)), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return client{Conn: c}
}

// ping sends a byte and waits for all that were sent to come back.
func (c *client) ping(wait time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	c.owed++
	got, err := io.ReadFull(c, make([]byte, c.owed))
	c.owed -= got
	return err
}

// addAddress gives an interface of the calling thread's namespace another address.
func addAddress(device string, p netip.Prefix) error {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("0"), 0)
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrReplace(link, a)
}
