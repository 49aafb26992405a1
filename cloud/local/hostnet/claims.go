package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// claims is where it is noted which instance has which public port or address, for all deployments of this machine: a link, named for what is
// claimed, to the instance's network namespace. The first who makes it has it.
const claims = "/run/trove-public"

func portClaim(p int) string            { return "port-" + strconv.Itoa(p) }
func addressClaim(ip netip.Addr) string { return "address-" + ip.String() }

// claim reports whether the instance has the thing now. What belonged to an instance that is gone is free. The caller has the deployment's lock.
func (n *Net) claim(ctx context.Context, thing, instance string) (bool, error) {
	unlock, err := lockFile(ctx, rangesLock)
	if err != nil {
		return false, fmt.Errorf("claim %s: %w", thing, err)
	}
	defer unlock()
	if err := os.MkdirAll(claims, 0o711); err != nil { //nolint:gosec // nothing in it is secret, and it is not listed
		return false, fmt.Errorf("claim %s: %w", thing, err)
	}
	link, owner := filepath.Join(claims, thing), n.d.netns(instance)
	for range 2 {
		err := os.Symlink(owner, link)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return false, fmt.Errorf("claim %s: %w", thing, err)
		}
		had, err := os.Readlink(link)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("claim %s: %w", thing, err)
		}
		if had == owner {
			return true, nil
		}
		if n.inUse(had) {
			return false, nil
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("claim %s: %w", thing, err)
		}
	}
	return false, nil
}

// inUse reports whether the owner of a claim may still be there.
func (n *Net) inUse(owner string) bool {
	if filepath.Dir(owner) == n.d.namespaces() {
		_, found, err := n.d.find(filepath.Base(owner))
		return found || err != nil
	}
	_, err := os.Stat(filepath.Dir(filepath.Dir(owner)))
	return !errors.Is(err, os.ErrNotExist)
}

// claimAll claims all addresses or none.
func (n *Net) claimAll(ctx context.Context, addresses []netip.Addr, instance string) (bool, error) {
	for i, ip := range addresses {
		mine, err := n.claim(ctx, addressClaim(ip), instance)
		if err != nil || !mine {
			for _, had := range addresses[:i] {
				n.disclaim(addressClaim(had), instance)
			}
			return false, err
		}
	}
	return true, nil
}

// disclaim gives back what the instance claimed.
func (n *Net) disclaim(thing, instance string) {
	link := filepath.Join(claims, thing)
	if had, err := os.Readlink(link); err == nil && had == n.d.netns(instance) {
		_ = os.Remove(link)
	}
}

// claimed are the names of what the instance has.
func claimed(r record) []string {
	var all []string
	for _, p := range r.rules.HostPorts {
		all = append(all, portClaim(p))
	}
	for _, ip := range r.rules.Own {
		all = append(all, addressClaim(ip))
	}
	return all
}

// reclaim notes again what the instance has: after a restart of the machine the notes are gone. It returns what another deployment took.
func (n *Net) reclaim(ctx context.Context, r record) (lost []string, err error) {
	for _, thing := range claimed(r) {
		mine, err := n.claim(ctx, thing, r.instance)
		if err != nil {
			return nil, err
		}
		if !mine {
			lost = append(lost, thing)
		}
	}
	return lost, nil
}

// sweepClaims gives back what instances of this deployment had that no record knows, and takes such addresses off the host.
func (n *Net) sweepClaims(known map[string]bool) {
	entries, err := os.ReadDir(claims)
	if err != nil {
		return
	}
	for _, e := range entries {
		link := filepath.Join(claims, e.Name())
		owner, err := os.Readlink(link)
		if err != nil || filepath.Dir(owner) != n.d.namespaces() || known[filepath.Base(owner)] {
			continue
		}
		if text, ok := strings.CutPrefix(e.Name(), "address-"); ok {
			if ip, err := netip.ParseAddr(text); err == nil {
				_ = n.ownAddresses(record{rules: rules{Own: []netip.Addr{ip}}}, false)
			}
		}
		_ = os.Remove(link)
	}
	_ = os.Remove(claims) // if nothing is claimed any more
}

// listening reports whether a program of this machine has the port: it would be cut off from its clients.
func listening(ctx context.Context, p int) bool {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(p)))
	if err != nil {
		return true
	}
	_ = l.Close()
	return false
}
