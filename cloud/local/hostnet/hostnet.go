// Package hostnet is the network of the local cloud: bridges, veth pairs, network namespaces and packet filters of this machine.
//
// A deployment has two bridges. On the management bridge its controllers listen and guests reach them, on the controllers' ports and nothing
// else. On the tenant bridge clients reach the engines of the guests, on the engine's ports and from the ranges that the access rules name. A
// guest has one port on each, cannot reach another guest, and has no route to anywhere else. Its MAC and its addresses are pinned: a frame
// with others is dropped where it enters the bridge. Nothing relies on br_netfilter, on ip_forward or on connection tracking.
//
//	<state>/network.json              the two ranges
//	<state>/network/<n>.<id>.json     an instance, its number (from which names and addresses follow) and its rules
//	/run/trove-<hash>/netns/<id>      the instance's network namespace
//	tv<hash>m, tv<hash>t              the bridges
//	tv<hash><n>m, tv<hash><n>t        the host's ends of the instance's veth pairs
//	table trove_<hash>                of the families bridge and inet
//
// <hash> is made from the path of the state directory, so deployments share nothing. All calls may be repeated, from several goroutines and
// processes: they take a lock of the deployment. What the files say is made true by Open, also after the machine was restarted.
package hostnet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	nl "github.com/mdlayher/netlink"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
)

// Config says where the network belongs and what it may use.
type Config struct {
	State string // the deployment's directory, made if missing
	Dir   string // directory for the files of the network, made if missing; "": State
	// ManagementCIDR and TenantCIDR are the ranges, from /16 to /28. Empty: the range that the deployment has, or a free /20 is chosen.
	ManagementCIDR string
	TenantCIDR     string
	// ControllerPorts are the TCP ports on the management bridge's address that guests may reach.
	ControllerPorts []int
	// BulkPorts are reached in the same way, and how much a guest sends there is not limited here.
	BulkPorts []int
	Public    PublicConfig          // the zero value: no instance is reached from outside
	Log       *slog.Logger          // nil: nothing is logged
	Metrics   prometheus.Registerer // nil: none
	// KeepUnknown leaves namespaces and interfaces of the deployment alone that no file knows, and does not give their numbers away.
	KeepUnknown bool
}

// Net is the network of one deployment.
type Net struct {
	d          deployment
	management side
	tenant     side
	ports      []int
	bulk       []int
	public     PublicConfig
	keep       bool // what no file knows
	log        *slog.Logger
	metrics    metrics
	turn       chan struct{}   // holds a token while nobody in this process has the deployment's lock
	host       *netlink.Handle // for the interfaces of this machine

	// What follows is used by whoever has the lock.
	conn   *nftables.Conn // nil until needed
	raw    *nl.Conn       // nil until needed
	state  filterState
	routed routed
}

// side is one of the two networks.
type side struct {
	bridge string
	letter string       // ends the names of what belongs to it
	inside string       // name of the interface in the guest
	prefix netip.Prefix // masked
	// prefix6 is the range of IPv6 addresses, invalid where there are none.
	prefix6 netip.Prefix
}

// host is the address of the bridge.
func (s side) host() netip.Addr { return s.prefix.Addr().Next() }

// deployment is where things are that belong to a state directory.
type deployment struct {
	state string // absolute, without links
	files string // directory of ranges and records
	hash  string // 8 hexadecimal digits
}

func newDeployment(state string) (deployment, error) {
	state, err := filepath.Abs(state)
	if err != nil {
		return deployment{}, err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return deployment{}, err
	}
	// The hash must be the same by whichever link the directory is reached.
	if state, err = filepath.EvalSymlinks(state); err != nil {
		return deployment{}, err
	}
	sum := sha256.Sum256([]byte(state))
	return deployment{state: state, files: state, hash: hex.EncodeToString(sum[:4])}, nil
}

func (d deployment) run() string            { return filepath.Join("/run", "trove-"+d.hash) }
func (d deployment) lockFile() string       { return filepath.Join(d.run(), "network.lock") }
func (d deployment) namespaces() string     { return filepath.Join(d.run(), "netns") }
func (d deployment) netns(id string) string { return filepath.Join(d.namespaces(), id) }
func (d deployment) records() string        { return filepath.Join(d.files, "network") }
func (d deployment) rangesFile() string     { return filepath.Join(d.files, "network.json") }
func (d deployment) table() string          { return "trove_" + d.hash }
func (d deployment) prefix() string         { return "tv" + d.hash } // of all interfaces
func (d deployment) bridge(l string) string { return d.prefix() + l }
func (d deployment) isPort(name string) bool {
	return len(name) == len(d.prefix())+4 && name[:len(d.prefix())] == d.prefix()
}

func (d deployment) sides() (management, tenant side) {
	return side{bridge: d.bridge("m"), letter: "m", inside: "mgmt0"}, side{bridge: d.bridge("t"), letter: "t", inside: "eth0"}
}

// Open makes the network of the deployment be there as the configuration and the files of the state directory say: bridges, filters, and
// whatever instances had before the machine was restarted; what has no owner is removed. It may be repeated, also while instances run: the filters
// are replaced as a whole. A range that is in use is a permanent error whose sentence names what uses it.
func Open(ctx context.Context, c Config) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, trove.Permanent(trove.Errorf(trove.KindForbidden,
			"The network of the local cloud needs root: run the command as root or with sudo."))
	}
	if err := errors.Join(checkPorts(c.ControllerPorts), checkPorts(c.BulkPorts), c.Public.check()); err != nil {
		return nil, err
	}
	d, err := newDeployment(c.State)
	if err != nil {
		return nil, fmt.Errorf("open the network: %w", err)
	}
	if c.Dir != "" {
		d.files = c.Dir
	}
	n, err := newNet(d)
	if err != nil {
		return nil, err
	}
	n.ports, n.bulk, n.public = slices.Clone(c.ControllerPorts), slices.Clone(c.BulkPorts), c.Public
	n.keep = c.KeepUnknown
	if c.Log != nil {
		n.log = c.Log
	}
	n.metrics = newMetrics(c.Metrics)
	if err := n.open(ctx, c); err != nil {
		n.forgetAll()
		return nil, err
	}
	return n, nil
}

func newNet(d deployment) (*Net, error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open the network: %w", err)
	}
	n := &Net{d: d, host: host, log: slog.New(slog.DiscardHandler), turn: make(chan struct{}, 1)}
	n.turn <- struct{}{}
	n.management, n.tenant = d.sides()
	n.management.prefix6, n.tenant.prefix6 = d.prefix6(n.management), d.prefix6(n.tenant)
	return n, nil
}

func (n *Net) open(ctx context.Context, c Config) error {
	d := n.d
	for _, dir := range []string{d.run(), d.namespaces()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // sandboxes' mounts are below; listing is not allowed
			return fmt.Errorf("open the network: %w", err)
		}
	}
	if err := os.MkdirAll(d.records(), 0o700); err != nil {
		return fmt.Errorf("open the network: %w", err)
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.settle(ctx, c); err != nil {
		return err
	}
	if !n.public.enabled() {
		return n.repair(ctx)
	}
	if !n.routes6() {
		n.log.WarnContext(ctx, "public instances are reached over IPv4 alone: for IPv6 this machine needs Linux 6.17, or net.ipv6.conf.all.forwarding=1")
	}
	if found := forwardBlockers(); len(found) > 0 {
		n.log.WarnContext(ctx, "a firewall drops forwarded packets: it must let through what goes to and comes from interfaces named tv*, or nobody outside"+
			" reaches public instances", "look_at", found)
	}
	return n.repair(ctx)
}

// HostAddress is the management bridge's own address: guests reach the controllers there.
func (n *Net) HostAddress() netip.Addr { return n.management.host() }

// TenantHost is the tenant bridge's own address: connections from this machine to an engine come from it.
func (n *Net) TenantHost() netip.Addr { return n.tenant.host() }

// ManagementSubnet is the range of the management network.
func (n *Net) ManagementSubnet() netip.Prefix { return n.management.prefix }

// TenantSubnet is the range that instances have their addresses from.
func (n *Net) TenantSubnet() netip.Prefix { return n.tenant.prefix }

// Repair makes everything true again that the files of the state directory say, as Open does: after somebody flushed the packet filters or removed
// an interface.
func (n *Net) Repair(ctx context.Context) error {
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return n.repair(ctx)
}

// Probe is the function Probe.
func (n *Net) Probe(ctx context.Context) error { return Probe(ctx) }

// Close forgets the network, which stays as it is. It waits for a running call and may be called twice.
func (n *Net) Close() error {
	<-n.turn
	n.forgetAll()
	n.turn <- struct{}{}
	return nil
}

func (n *Net) forgetAll() {
	n.closeFilters()
	n.closeRaw()
	n.host.Close()
}

func checkPorts(ports []int) error {
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return bad("%d is not a TCP port.", p)
		}
	}
	return nil
}

func bad(format string, args ...any) error {
	return trove.Permanent(trove.Errorf(trove.KindBadRequest, format, args...))
}
