package hostnet

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/trove-dbaas/trove/internal/netns"
)

// Dump and DumpAddresses let tests call the retrying wrapper.
var (
	Dump          = dump[int]
	DumpAddresses = dump[netlink.Addr]
)

// Inside lets tests run code in an instance's network namespace.
var Inside = netns.Do

// Names returns the names of what the deployment makes: both bridges, the filter's table and the prefix of the ports.
func (n *Net) Names() (management, tenant, table, prefix string) {
	return n.management.bridge, n.tenant.bridge, n.d.table(), n.d.prefix()
}

// Guest returns the instance's MAC on the management and the tenant network.
func (n *Net) Guest(instance string) (management, tenant net.HardwareAddr) {
	return n.d.mac(n.management, instance), n.d.mac(n.tenant, instance)
}

// State returns the deployment's directory.
func (n *Net) State() string { return n.d.state }

// HostPorts returns the names of the host's ends of the instance's veth pairs.
func (n *Net) HostPorts(tb testing.TB, instance string) (management, tenant string) {
	tb.Helper()
	r, ok, err := n.d.find(instance)
	if err != nil || !ok {
		tb.Fatalf("no record of %s: %v", instance, err)
	}
	return n.d.port(n.management, r.number), n.d.port(n.tenant, r.number)
}

// TenantHost6 is the tenant bridge's IPv6 address.
func (n *Net) TenantHost6() netip.Addr { return n.tenant.host6() }

// Dropped returns how many frames of guests were dropped, by reason and port.
func (n *Net) Dropped(ctx context.Context) (map[string]uint64, error) {
	unlock, err := n.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	found, err := n.readCounters()
	all := map[string]uint64{}
	for c, frames := range found {
		if frames > 0 {
			all[c.reason+" "+c.device] = frames
		}
	}
	return all, err
}
