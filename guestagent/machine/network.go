package machine

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// link is an interface of the machine data with the name that the kernel gave it.
type link struct {
	machinedata.Interface
	name  string
	apart bool // it is in the namespace of the management network
}

// setNetwork closes the management network and then brings the interfaces up, in this order. Isolated, the management interface is in a network namespace of
// its own, where no program is but the connections of the agent: for everything else in the guest there is no such interface, address or route, and the
// database's network may have the same addresses.
func (m *machine) setNetwork(ctx context.Context) error {
	if m.data.IsolateManagement {
		if err := m.Kernel.Namespace(m.at(m.Management)); err != nil {
			return fmt.Errorf("set the network: %w", err)
		}
	}
	if err := m.findLinks(ctx); err != nil {
		return fmt.Errorf("set the network: %w", err)
	}
	rules, links := rulesApart, m.user
	if m.data.IsolateManagement {
		if err := m.setApart(ctx); err != nil {
			return fmt.Errorf("set the management network: %w", err)
		}
	} else {
		rules, links = m.together(), append(slices.Clip(m.mgmt), m.user...)
	}
	if err := m.setLinks(ctx, rules, links); err != nil {
		return fmt.Errorf("set the network: %w", err)
	}
	var resolv strings.Builder
	for _, l := range append(slices.Clip(m.mgmt), m.user...) {
		how := ""
		if l.apart {
			how = ", in a network namespace of its own"
		}
		m.say("%s is the %s interface with %s%s", l.name, l.Role, strings.Join(l.Addresses, ", "), how)
		for _, s := range l.Nameservers {
			fmt.Fprintf(&resolv, "nameserver %s\n", s)
		}
	}
	return atomicfile.Write(m.at("/run/resolv.conf"), []byte(resolv.String()), 0o644)
}

// setApart puts the management interface, which is down yet, behind its rules into its namespace.
func (m *machine) setApart(ctx context.Context) error {
	ns := m.at(m.Management)
	var move strings.Builder
	for i := range m.mgmt {
		if l := &m.mgmt[i]; !l.apart {
			fmt.Fprintf(&move, "link set dev %s netns %s\n", l.name, ns)
			l.apart = true
		}
	}
	if move.Len() > 0 {
		if err := m.Kernel.Run(ctx, move.String(), "ip", "-batch", "-"); err != nil {
			return err
		}
	}
	links := slices.Clone(m.mgmt)
	for i := range links {
		links[i].Routes = withDefault(links[i].Routes)
	}
	return m.Kernel.Within(ns, func() error { return m.setLinks(ctx, rulesManagement, links) })
}

// withDefault adds a default route of each family over the first router of that family. The user data names the controllers that there were when the machine
// was made; others come later, and are told on the bus. The rules let nothing out but root's TCP.
func withDefault(routes []machinedata.Route) []machinedata.Route {
	all, routed := slices.Clip(routes), map[string]bool{}
	for _, r := range routes {
		if to := everywhere(netip.MustParseAddr(r.Via)); !routed[to] {
			routed[to] = true
			all = append(all, machinedata.Route{To: to, Via: r.Via})
		}
	}
	return all
}

// setLinks loads the rules and then brings up interfaces of the same namespace, the thread's.
func (m *machine) setLinks(ctx context.Context, rules string, links []link) error {
	if err := m.Kernel.Run(ctx, rules, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("the rules: %w", err)
	}
	if err := m.writeSettings(links); err != nil {
		return err
	}
	for _, l := range links {
		m.setMTU(ctx, l)
	}
	management, user := split(links)
	if err := m.Kernel.Run(ctx, "link set dev lo up\n"+commands(management), "ip", "-batch", "-"); err != nil || len(user) == 0 {
		return err
	}
	// What a tenant says of a network may be nonsense. A guest that did not start for it could not be asked for its data either.
	if err := m.Kernel.Run(ctx, commands(user), "ip", "-force", "-batch", "-"); err != nil {
		m.say("going on with what could be set of the network of the database's clients: %v", err)
	}
	return nil
}

// split returns the management interface, and the others.
func split(links []link) (management, user []link) {
	for _, l := range links {
		if l.Role == machinedata.RoleManagement {
			management = append(management, l)
		} else {
			user = append(user, l)
		}
	}
	return management, user
}

// setMTU is nothing that a start depends on: the user data tells what the network had when it was written, and a device takes no more than the network has now.
func (m *machine) setMTU(ctx context.Context, l link) {
	if l.MTU == 0 {
		return
	}
	if err := m.Kernel.Run(ctx, "", "ip", "link", "set", "dev", l.name, "mtu", strconv.Itoa(l.MTU)); err != nil {
		m.say("the MTU of %s is not set to %d, it stays as it is: %v", l.name, l.MTU, err)
	}
}

// findLinks finds every interface by its hardware address. One of the database's clients may be gone for good: who owns a network may delete the ports in it. Then
// the guest starts without it, because it could not be asked for its data otherwise.
func (m *machine) findLinks(ctx context.Context) error {
	var missing []string
	var failed error
	err := m.until(ctx, m.LinkWait, "the network interfaces", func() (bool, error) {
		missing, failed = m.lookForLinks()
		return len(missing) == 0, failed
	})
	switch {
	case err == nil || failed != nil:
		return err
	case len(m.mgmt) == 0 || ctx.Err() != nil:
		return fmt.Errorf("%w; there is none with the hardware address %s", err, strings.Join(missing, ", "))
	}
	m.say("going on without a network of the database's clients: there is no interface with the hardware address %s", strings.Join(missing, ", "))
	return nil
}

// lookForLinks returns the hardware addresses of which there is no interface yet.
func (m *machine) lookForLinks() (missing []string, err error) {
	m.mgmt, m.user = nil, nil
	here, err := m.Kernel.Links()
	if err != nil {
		return nil, err
	}
	apart := map[string]string{} // by an earlier run
	if m.data.IsolateManagement {
		if err := m.Kernel.Within(m.at(m.Management), func() (err error) { apart, err = m.Kernel.Links(); return err }); err != nil {
			return nil, err
		}
	}
	for _, i := range m.data.Interfaces {
		l := link{Interface: i, name: here[i.MAC]}
		if name := apart[i.MAC]; name != "" && i.Role == machinedata.RoleManagement {
			l.name, l.apart = name, true
		}
		switch {
		case l.name == "":
			missing = append(missing, i.MAC)
		case i.Role == machinedata.RoleManagement:
			m.mgmt = append(m.mgmt, l)
		default:
			m.user = append(m.user, l)
		}
	}
	return missing, nil
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

// offOfLinks are what the kernel has for each interface that is there already, and what none of them is to do.
var offOfLinks = []string{
	"ipv4/conf/%s/accept_redirects", "ipv4/conf/%s/send_redirects", "ipv6/conf/%s/accept_ra", "ipv6/conf/%s/accept_redirects",
}

func (m *machine) writeSettings(links []link) error {
	all := settings
	for _, l := range links {
		for _, file := range offOfLinks {
			all = append(slices.Clip(all), struct{ file, value string }{fmt.Sprintf(file, l.name), "0"})
		}
	}
	for _, s := range all {
		path := m.at("/proc/sys/net", s.file)
		if !exists(path) {
			continue // a kernel without IPv6
		}
		if err := os.WriteFile(path, []byte(s.value), 0o644); err != nil { //nolint:gosec // a file of the kernel's
			return fmt.Errorf("%s: %w", s.file, err)
		}
	}
	return nil
}

// commands are what ip does. Each may be repeated.
func commands(links []link) string {
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintf(&b, "link set dev %s up\n", l.name)
		for _, a := range l.Addresses {
			nodad := ""
			if netip.MustParsePrefix(a).Addr().Is6() {
				nodad = " nodad" // the port has it, and nobody else may
			}
			fmt.Fprintf(&b, "addr replace %s dev %s%s\n", a, l.name, nodad)
		}
		for _, r := range l.Routes {
			b.WriteString(l.route(r.To, r.Via))
		}
		for _, g := range l.Gateways() {
			b.WriteString(l.route(everywhere(g), g.String()))
		}
	}
	return b.String()
}

// everywhere is what the default route of a gateway's family leads to.
func everywhere(gateway netip.Addr) string {
	if gateway.Is4() {
		return "0.0.0.0/0"
	}
	return "::/0"
}

// route is the line for ip of a way to a network. A gateway outside the interface's networks, such as a router's link-local address, is said to be on the link.
func (l link) route(to, via string) string {
	onLink := " onlink"
	if l.InNetwork(netip.MustParseAddr(via)) {
		onLink = ""
	}
	return fmt.Sprintf("route replace %s via %s dev %s%s\n", to, via, l.name, onLink)
}
