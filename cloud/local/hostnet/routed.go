package hostnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/vishvananda/netlink"
)

// Where the machine does not forward packets between its interfaces, that is switched on, while an instance is public, for the tenant bridge and the
// interfaces on which clients may come, and for these alone. The filter drops whatever else could be forwarded from there. What was switched on
// is written down, in a directory that a restart of the machine empties like the settings, and switched off again.

// ofDeployment are the names of interfaces of any deployment.
var ofDeployment = regexp.MustCompile(`^tv[0-9a-f]{8}([0-9a-z]{3})?[mt]$`)

// routed are the interfaces on which forwarding was switched on, for each family.
type routed struct {
	IPv4 []string `json:"ipv4"`
	IPv6 []string `json:"ipv6"`
}

// guarded are the interfaces from which nothing but connections to instances may be forwarded.
func (r routed) guarded() []string {
	all := map[string]bool{}
	for _, name := range slices.Concat(r.IPv4, r.IPv6) {
		if !ofDeployment.MatchString(name) {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (d deployment) routedFile() string { return filepath.Join(d.run(), "routed.json") }

// forwards are the settings of a family: of the whole machine and of an interface.
type forwards struct{ all, directory, each string }

var (
	forwards4 = forwards{"/proc/sys/net/ipv4/ip_forward", "ipv4", "forwarding"}
	forwards6 = forwards{"/proc/sys/net/ipv6/conf/all/forwarding", "ipv6", "force_forwarding"}
)

// everywhere reports whether the machine forwards between all interfaces anyway.
func (f forwards) everywhere() bool { return switchedOn(f.all) }

func switchedOn(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(text)) != "0"
}

// routes6 reports whether IPv6 can be forwarded here: for single interfaces that takes Linux 6.17, else the machine must be a router.
func (n *Net) routes6() bool {
	if !n.tenant.prefix6.IsValid() {
		return false
	}
	_, err := os.Stat(tunablePath(forwards6.directory, "all", forwards6.each))
	return err == nil || forwards6.everywhere()
}

// route switches forwarding on where it is needed and off where it is no longer. Rules come first when something is switched on, and last when
// something is switched off. The caller has the lock.
func (n *Net) route(ctx context.Context, needed bool, refilter func() error) error {
	want, err := n.wantRouted(needed)
	if err != nil {
		return err
	}
	had := n.routed
	for _, s := range []struct {
		f    forwards
		was  []string
		will []string
	}{{forwards4, had.IPv4, want.IPv4}, {forwards6, had.IPv6, want.IPv6}} {
		for _, name := range s.was {
			if slices.Contains(s.will, name) || s.f.everywhere() {
				continue
			}
			if err := tunable(s.f.directory, name, s.f.each, "0"); err != nil {
				return fmt.Errorf("switch forwarding off on %s: %w", name, err)
			}
		}
	}
	if !slices.Equal(had.IPv4, want.IPv4) || !slices.Equal(had.IPv6, want.IPv6) {
		if err := n.writeRouted(want); err != nil {
			return err
		}
		n.routed = want
		if err := refilter(); err != nil {
			return err
		}
		n.log.InfoContext(ctx, "forwarding is switched on for public instances", "ipv4", want.IPv4, "ipv6", want.IPv6)
	}
	return n.switchOn(want)
}

func (n *Net) switchOn(want routed) error {
	for f, names := range map[forwards][]string{forwards4: want.IPv4, forwards6: want.IPv6} {
		for _, name := range names {
			if err := tunable(f.directory, name, f.each, "1"); err != nil {
				return fmt.Errorf("switch forwarding on for %s: %w", name, err)
			}
			if path := tunablePath(f.directory, name, f.each); !switchedOn(path) {
				return trove.Permanent(trove.Errorf(trove.KindUnavailable,
					"The kernel does not let %s be set to 1, so nobody outside of this machine reaches an instance: switch forwarding on for the whole"+
						" machine (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding).", path))
			}
		}
	}
	return nil
}

// wantRouted returns what shall be switched on by this deployment: what it did already, and what is off.
func (n *Net) wantRouted(needed bool) (routed, error) {
	var want routed
	if !needed {
		return want, nil
	}
	var err error
	if want.IPv4, err = n.wantRoutedOf(forwards4, netlink.FAMILY_V4, n.routed.IPv4); err != nil {
		return want, err
	}
	if n.routes6() {
		want.IPv6, err = n.wantRoutedOf(forwards6, netlink.FAMILY_V6, n.routed.IPv6)
	}
	return want, err
}

func (n *Net) wantRoutedOf(f forwards, family int, had []string) ([]string, error) {
	if f.everywhere() {
		return nil, nil
	}
	names, err := n.entrances(family)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return !slices.Contains(had, name) && switchedOn(tunablePath(f.directory, name, f.each))
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}

// entrances are the interfaces on which packets between clients and instances come in.
func (n *Net) entrances(family int) ([]string, error) {
	all := []string{n.tenant.bridge}
	if slices.ContainsFunc(n.public.Pools, func(p netip.Prefix) bool { return familyOf(p.Addr()) == family }) {
		link, err := n.poolLink(family)
		if err != nil {
			return nil, err
		}
		all = append(all, link.Attrs().Name)
	}
	if n.public.FirstPort == 0 {
		return all, nil
	}
	found, err := n.hostAddresses(family)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if len(n.public.Addresses) == 0 || slices.Contains(n.public.Addresses, a.ip) {
			all = append(all, a.name)
		}
	}
	return all, nil
}

// readRouted reads what was switched on by an earlier process.
func (n *Net) readRouted() error {
	data, err := os.ReadFile(n.d.routedFile())
	if errors.Is(err, os.ErrNotExist) {
		n.routed = routed{}
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &n.routed)
	}
	if err != nil {
		return fmt.Errorf("read which interfaces forward: %w", err)
	}
	return nil
}

func (n *Net) writeRouted(r routed) error {
	data, err := json.Marshal(r)
	if err == nil {
		err = atomicfile.Write(n.d.routedFile(), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down which interfaces forward: %w", err)
	}
	return nil
}
