package machine

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// link is an interface of the machine data with the name that the kernel gave it.
type link struct {
	machinedata.Interface
	name string
}

// setNetwork closes the management network and then brings the interfaces up, in this order.
func (m *machine) setNetwork(ctx context.Context) error {
	if err := m.findLinks(ctx); err != nil {
		return fmt.Errorf("set the network: %w", err)
	}
	if err := m.Kernel.Run(ctx, m.rules(), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("set the rules of the network: %w", err)
	}
	if err := m.writeSettings(); err != nil {
		return err
	}
	if err := m.Kernel.Run(ctx, m.commands(), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("set the network: %w", err)
	}
	var resolv strings.Builder
	for _, l := range append(m.mgmt, m.user...) {
		m.say("%s is the %s interface with %s", l.name, l.Role, strings.Join(l.Addresses, ", "))
		for _, s := range l.Nameservers {
			fmt.Fprintf(&resolv, "nameserver %s\n", s)
		}
	}
	return atomicfile.Write(m.at("/run/resolv.conf"), []byte(resolv.String()), 0o644)
}

// findLinks finds every interface by its hardware address.
func (m *machine) findLinks(ctx context.Context) error {
	var missing []string
	err := m.until(ctx, m.LinkWait, "the network interfaces", func() (bool, error) {
		m.mgmt, m.user, missing = nil, nil, nil
		files, err := filepath.Glob(m.at("/sys/class/net/*/address"))
		if err != nil {
			return false, err
		}
		names := map[string]string{}
		for _, f := range files {
			if mac, err := os.ReadFile(f); err == nil {
				names[strings.TrimSpace(string(mac))] = filepath.Base(filepath.Dir(f))
			}
		}
		for _, i := range m.data.Interfaces {
			l := link{i, names[i.MAC]}
			switch {
			case l.name == "":
				missing = append(missing, i.MAC)
			case i.Role == machinedata.RoleManagement:
				m.mgmt = append(m.mgmt, l)
			default:
				m.user = append(m.user, l)
			}
		}
		return len(missing) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w; there is none with the hardware address %s", err, strings.Join(missing, ", "))
	}
	return nil
}

// settings of the kernel: no address is taken from what the network says, none is answered for on an interface that does not have it, and nothing is passed
// on.
var settings = []struct{ file, value string }{
	{"ipv4/ip_forward", "0"},
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/all/arp_announce", "2"},
	{"ipv4/conf/all/arp_ignore", "1"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv6/conf/all/accept_ra", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/all/accept_redirects", "0"},
	{"ipv6/conf/default/accept_redirects", "0"},
}

func (m *machine) writeSettings() error {
	all := settings
	for _, l := range append(m.mgmt, m.user...) {
		all = append(slices.Clip(all), struct{ file, value string }{"ipv6/conf/" + l.name + "/accept_ra", "0"})
	}
	for _, s := range all {
		path := m.at("/proc/sys/net", s.file)
		if !exists(path) {
			continue // a kernel without IPv6
		}
		if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil { //nolint:gosec // a file of the kernel's
			return fmt.Errorf("set the network: %s: %w", s.file, err)
		}
	}
	return nil
}

// commands are what ip does. Each may be repeated.
func (m *machine) commands() string {
	var b strings.Builder
	b.WriteString("link set dev lo up\n")
	for _, l := range append(m.mgmt, m.user...) {
		if l.MTU != 0 {
			fmt.Fprintf(&b, "link set dev %s mtu %d\n", l.name, l.MTU)
		}
		fmt.Fprintf(&b, "link set dev %s up\n", l.name)
		for _, a := range l.Addresses {
			nodad := ""
			if netip.MustParsePrefix(a).Addr().Is6() {
				nodad = " nodad" // the port has it, and nobody else may
			}
			fmt.Fprintf(&b, "addr replace %s dev %s%s\n", a, l.name, nodad)
		}
		for _, r := range l.Routes {
			fmt.Fprintf(&b, "route replace %s via %s dev %s\n", r.To, r.Via, l.name)
		}
		if l.Gateway != "" {
			all := "0.0.0.0/0"
			if netip.MustParseAddr(l.Gateway).Is6() {
				all = "::/0"
			}
			fmt.Fprintf(&b, "route replace %s via %s dev %s\n", all, l.Gateway, l.name)
		}
	}
	return b.String()
}
