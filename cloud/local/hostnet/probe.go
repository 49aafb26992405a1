package hostnet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/netns"
)

// probeWait is how long a connection over a veth pair may take; it takes less than a millisecond.
const probeWait = 2 * time.Second

// probePort is tried first: a firewall may let the controllers' ports through and no others.
const probePort = "4222"

// Probe finds out whether this machine's kernel and firewall let the local cloud's network work: it makes a scratch bridge, a network namespace and a
// veth pair between them, connects through them in both directions, sees that a filter stops a connection, and removes everything. The error is a
// sentence that names what is missing or what blocks.
func Probe(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return trove.Permanent(trove.Errorf(trove.KindForbidden, "The network of the local cloud needs root: run the command as root or with sudo."))
	}
	var random [4]byte
	_, _ = rand.Read(random[:])
	d := deployment{hash: hex.EncodeToString(random[:])}
	dir, err := os.MkdirTemp("/run", "trove-probe-")
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d.state, d.files = dir, dir
	unlock, err := lockFile(ctx, rangesLock)
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	defer unlock()
	taken, err := d.taken()
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	n, err := newNet(d)
	if err != nil {
		return err
	}
	defer n.forgetAll()
	if n.tenant.prefix, err = choose("probe", taken, d.hash); err != nil {
		return err
	}
	n.management = n.tenant // one bridge is enough
	path := dir + "/netns"
	defer func() {
		_ = netns.Remove(path)
		_ = removeLink(d.port(n.tenant, 2))
		_ = removeLink(n.tenant.bridge)
		if f, err := n.filters(); err == nil {
			f.remove()
			_ = f.commit()
		}
	}()
	return n.probe(ctx, path)
}

func (n *Net) probe(ctx context.Context, path string) error {
	s := n.tenant
	if err := n.ensureBridge(s); err != nil {
		return err
	}
	ns, err := ensureNamespace(path)
	if errors.Is(err, unix.EPERM) {
		return trove.Permanent(trove.Wrap(trove.KindForbidden, err,
			"The kernel refuses to make a network namespace: the local cloud needs root with the capability SYS_ADMIN."))
	}
	if err != nil {
		return err
	}
	defer ns.close()
	guest := record{instance: "probe", number: 2}
	if err := n.attach(ns, guest, s); err != nil {
		return err
	}
	if err := n.awaitCarrier(ctx, ns); err != nil {
		return err
	}
	if err := n.probeInput(ctx, ns, s.host()); err != nil {
		return err
	}
	if err := n.probeOutput(ctx, ns, guest.address(s)); err != nil {
		return err
	}
	return n.probeFilter(ctx, ns, guest.address(s))
}

// probeInput connects from the namespace to the host.
func (n *Net) probeInput(ctx context.Context, ns *namespace, host netip.Addr) error {
	l, err := listen(ctx, host)
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	defer func() { _ = l.Close() }()
	err = netns.Inside(ns.file, func() error { return connectTo(ctx, l.Addr().String()) })
	if err == nil {
		return nil
	}
	return trove.Wrap(trove.KindUnavailable, err,
		"A guest could not reach this machine over a bridge: %s. Let connections from interfaces named tv* come in, for example"+
			" with a rule for TCP ports 4222 and 4223.", suspects(nftables.ChainHookInput, nftables.ChainHookPrerouting))
}

// probeOutput connects from the host to the namespace.
func (n *Net) probeOutput(ctx context.Context, ns *namespace, guest netip.Addr) error {
	var l net.Listener
	err := netns.Inside(ns.file, func() (err error) {
		l, err = listen(ctx, guest)
		return err
	})
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	defer func() { _ = l.Close() }()
	if err := connectTo(ctx, l.Addr().String()); err != nil {
		return trove.Wrap(trove.KindUnavailable, err,
			"This machine could not reach a guest over a bridge: %s. Let connections to interfaces named tv* go out.",
			suspects(nftables.ChainHookOutput, nftables.ChainHookPostrouting))
	}
	return nil
}

// probeFilter sees that the packet filter works on the bridge: with it, a port that is in no map gets nothing.
func (n *Net) probeFilter(ctx context.Context, ns *namespace, guest netip.Addr) error {
	f, err := n.filters()
	if err != nil {
		return err
	}
	if err := f.base(); err != nil {
		return err
	}
	if err := f.commit(); err != nil {
		return err
	}
	var l net.Listener
	err = netns.Inside(ns.file, func() (err error) {
		l, err = listen(ctx, guest)
		return err
	})
	if err != nil {
		return fmt.Errorf("probe the network: %w", err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(ctx, probeWait/20)
	defer cancel()
	if connectTo(ctx, l.Addr().String()) == nil {
		return trove.Permanent(trove.Errorf(trove.KindUnavailable,
			"The kernel's packet filter has no effect on bridges, so instances could not be kept apart: a kernel with nftables for the bridge family is needed."))
	}
	return nil
}

// listen listens on the port that is probed, or on any if somebody has that on all addresses. It must be called where the address is.
func listen(ctx context.Context, ip netip.Addr) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp4", net.JoinHostPort(ip.String(), probePort))
	if errors.Is(err, unix.EADDRINUSE) {
		l, err = c.Listen(ctx, "tcp4", net.JoinHostPort(ip.String(), "0"))
	}
	return l, err
}

// connectTo opens a connection in the calling thread's namespace and closes it. The kernel alone answers: nobody has to accept.
func connectTo(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: probeWait}
	c, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// suspects names the filters of others that may have dropped a packet at the hooks.
func suspects(hooks ...*nftables.ChainHook) string {
	var found []string
	if conn, err := nftables.New(); err == nil {
		chains, err := conn.ListChains()
		if err != nil {
			chains = nil
		}
		for _, c := range chains {
			for _, h := range hooks {
				if c.Hooknum != nil && *c.Hooknum == *h && !strings.HasPrefix(c.Table.Name, "trove_") {
					found = append(found, "chain "+c.Name+" of the nftables table "+c.Table.Name+policy(c))
				}
			}
		}
	}
	if legacy, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && len(legacy) > 0 {
		found = append(found, "rules of iptables-legacy in the tables "+strings.Join(strings.Fields(string(legacy)), ", "))
	}
	if len(found) == 0 {
		return "no packet filter of another program was found that would explain it"
	}
	return "a packet filter seems to block it, look at " + strings.Join(found, ", ")
}

// forwardBlockers names the chains of others that drop forwarded packets unless they say otherwise.
func forwardBlockers() []string {
	conn, err := nftables.New()
	if err != nil {
		return nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil
	}
	var found []string
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && policy(c) != "" {
			found = append(found, "chain "+c.Name+" of the nftables table "+c.Table.Name)
		}
	}
	return found
}

func policy(c *nftables.Chain) string {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return " (its policy is drop)"
	}
	return ""
}
