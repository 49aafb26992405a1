// Package outside gives tests a client machine that is not this one: a network namespace with one interface, connected to this machine by a veth pair.
// Everything is removed when the test ends. LeaveNetwork gives a whole test program a network in which it is alone.
package outside

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/netns"
)

// Machine is a machine in a namespace of its own. Its default routes lead to this machine.
type Machine struct {
	Netns            string     // path of its network namespace
	Device           string     // the interface of this machine that leads there
	Host4, Host6     netip.Addr // this machine's addresses on Device
	Client4, Client6 netip.Addr // its own
}

var machines atomic.Int32

// New makes a machine. It needs root.
func New(t testing.TB) Machine {
	t.Helper()
	number, third := int(machines.Add(1)), os.Getpid()%250+1
	m := Machine{
		Netns:  filepath.Join(t.TempDir(), "netns"),
		Device: fmt.Sprintf("out%d-%d", os.Getpid()%100000, number),
	}
	for _, a := range []struct {
		to   *netip.Addr
		text string
	}{
		{&m.Host4, fmt.Sprintf("198.19.%d.%d", third, number*4%252+1)},
		{&m.Client4, fmt.Sprintf("198.19.%d.%d", third, number*4%252+2)},
		{&m.Host6, fmt.Sprintf("fd5e:7e57:%x:%x::1", third, number)},
		{&m.Client6, fmt.Sprintf("fd5e:7e57:%x:%x::2", third, number)},
	} {
		*a.to = netip.MustParseAddr(a.text)
	}
	if err := netns.Make(m.Netns, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(m.Device); err == nil {
			_ = netlink.LinkDel(link)
		}
		if err := netns.Remove(m.Netns); err != nil {
			t.Error(err)
		}
	})
	if err := m.connect(); err != nil {
		t.Fatalf("connect the network namespace: %v", err)
	}
	return m
}

func (m Machine) connect() error {
	ns, err := os.Open(m.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = m.Device
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}); err != nil {
		return err
	}
	if err := up(m.Device, m.Host4, m.Host6); err != nil {
		return err
	}
	return m.Do(func() error {
		if err := up("eth0", m.Client4, m.Client6); err != nil {
			return err
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, gw := range []netip.Addr{m.Host4, m.Host6} {
			everywhere := &net.IPNet{IP: make(net.IP, len(gw.AsSlice())), Mask: net.CIDRMask(0, gw.BitLen())}
			err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere, Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// up gives an interface its addresses and switches it on.
func up(device string, ips ...netip.Addr) error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("0"), 0); err != nil {
		return err
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(30, 32)}}
		if ip.Is6() {
			a.Mask, a.Flags = net.CIDRMask(64, 128), unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// Do runs f on a thread in the machine's namespace. Sockets that f opens stay there.
func (m Machine) Do(f func() error) error { return netns.Do(m.Netns, f) }

// Dial opens a connection from the machine.
func (m Machine) Dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = m.Do(func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}
