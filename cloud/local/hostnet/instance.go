package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"

	"github.com/trove-dbaas/trove/internal/netns"
)

// Spec is what an instance's attachment shall be.
type Spec struct {
	Instance string
	Address  netip.Addr     // on the tenant network; the zero value: any free one. An instance that has one keeps it.
	Access   []netip.Prefix // who may connect; empty: everybody who can route to the address
	TCPPorts []int          // the engine's ports
	Public   bool           // also reachable from outside of this machine
}

// Ports is an instance's attachment.
type Ports struct {
	Instance   string
	Netns      string         // path of its network namespace
	Address    netip.Addr     // on the tenant network: where clients connect to
	Address6   netip.Addr     // the same for IPv6, invalid where this machine has none
	Management netip.Addr     // on the management network
	Access     []netip.Prefix // the rules in force
	TCPPorts   []int
	Public     []Endpoint // where clients from outside connect to
}

// EnsureInstance makes the instance's network namespace exist with its two interfaces, addresses and rules, and returns it. Called again with
// other rules it changes them, all at once; connections that the new rules do not allow are cut.
func (n *Net) EnsureInstance(ctx context.Context, s Spec) (Ports, error) {
	if err := checkSpec(s); err != nil {
		return Ports{}, err
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return Ports{}, err
	}
	defer unlock()
	r, found, err := n.d.find(s.Instance)
	if err != nil {
		return Ports{}, err
	}
	if !found {
		r = record{instance: s.Instance}
		if r.number, err = n.number(s.Instance, s.Address); err != nil {
			return Ports{}, err
		}
	}
	had := r.rules
	r.rules.TCPPorts, r.rules.Access, r.rules.Public = slices.Clone(s.TCPPorts), slices.Clone(s.Access), s.Public
	if s.Public {
		if err := n.allot(ctx, &r); err != nil {
			return Ports{}, err
		}
	}
	changed := !found || !reflect.DeepEqual(r.rules, had)
	if err := n.make(ctx, r, changed); err != nil {
		return Ports{}, fmt.Errorf("network of instance %s: %w", s.Instance, err)
	}
	if len(claimed(r)) > 0 {
		if err := n.openUp(ctx, r); err != nil {
			return Ports{}, fmt.Errorf("public address of instance %s: %w", s.Instance, err)
		}
	}
	return n.describe(r), nil
}

// openUp makes this machine send on to the instance what clients from outside send, or no longer.
func (n *Net) openUp(ctx context.Context, r record) error {
	if err := n.ownAddresses(r, n.published(r)); err != nil {
		return err
	}
	return n.routeFor(ctx)
}

// routeFor makes this machine forward packets if an instance is public, and not if none is.
func (n *Net) routeFor(ctx context.Context) error {
	all, err := n.d.readRecords()
	if err != nil {
		return err
	}
	return n.route(ctx, slices.ContainsFunc(all, n.published), func() error { return n.refilter(all) })
}

// make writes the record, sets the filter and makes the interfaces, side by side: without its rules a port drops everything, and what has no record is
// removed by the next Open or replaced by the next instance with its number.
func (n *Net) make(ctx context.Context, r record, changed bool) error {
	var writing, filtering error
	var wg sync.WaitGroup
	if changed {
		wg.Go(func() { writing = n.d.write(r) })
	}
	wg.Go(func() { filtering = n.filter(ctx, r) })
	connecting := n.connect(ctx, r)
	wg.Wait()
	return errors.Join(writing, filtering, connecting)
}

func checkSpec(s Spec) error {
	if !trove.ValidID(s.Instance) {
		return bad("%q is not the id of an instance.", s.Instance)
	}
	for _, p := range s.Access {
		if !p.IsValid() {
			return bad("%q is not an address range.", p)
		}
	}
	return checkPorts(s.TCPPorts)
}

// filter puts the instance's rules in force.
func (n *Net) filter(ctx context.Context, r record) error {
	f, err := n.filters()
	if err != nil {
		return err
	}
	if err := f.instance(r); err != nil {
		return err
	}
	err = f.commit()
	if errors.Is(err, unix.ENOENT) {
		n.log.WarnContext(ctx, "packet filter of the deployment was missing and made again")
		others, err := n.others(r.instance)
		if err != nil {
			return err
		}
		return n.refilter(append(others, r))
	}
	return err
}

// connect makes namespace and interfaces.
func (n *Net) connect(ctx context.Context, r record) error {
	ns, err := ensureNamespace(n.d.netns(r.instance))
	if err != nil {
		return err
	}
	defer ns.close()
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1, Name: "lo"}}
	if err := ns.handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("switch lo on: %w", err)
	}
	if err := errors.Join(n.attach(ns, r, n.management), n.attach(ns, r, n.tenant)); err != nil {
		return err
	}
	return n.awaitCarrier(ctx, ns)
}

func (n *Net) describe(r record) Ports {
	return Ports{
		Instance: r.instance, Netns: n.d.netns(r.instance), Address: r.address(n.tenant), Address6: r.address6(n.tenant), Management: r.address(n.management),
		Access: r.rules.Access, TCPPorts: r.rules.TCPPorts, Public: n.endpoints(r),
	}
}

// FindInstance returns the instance's attachment. One that is not there, or not whole, is NotFound.
func (n *Net) FindInstance(ctx context.Context, instance string) (Ports, error) {
	if !trove.ValidID(instance) {
		return Ports{}, bad("%q is not the id of an instance.", instance)
	}
	if ctx.Err() != nil {
		return Ports{}, context.Cause(ctx)
	}
	r, found, err := n.d.find(instance)
	if err != nil {
		return Ports{}, err
	}
	missing := !found || !netns.Is(n.d.netns(instance))
	for _, s := range []side{n.management, n.tenant} {
		if missing {
			break
		}
		_, err := n.host.LinkByName(n.d.port(s, r.number))
		if err != nil && !notThere(err) {
			return Ports{}, fmt.Errorf("find the network of instance %s: %w", instance, err)
		}
		missing = err != nil
	}
	if missing {
		return Ports{}, trove.Errorf(trove.KindNotFound, "Instance %s has no network.", instance)
	}
	return n.describe(r), nil
}

// Instances returns what all instances have, ordered by their ids, also those that are half-made or half-removed.
func (n *Net) Instances(ctx context.Context) ([]Ports, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	records, err := n.d.readRecords()
	if err != nil {
		return nil, err
	}
	all := make([]Ports, 0, len(records))
	for _, r := range records {
		all = append(all, n.describe(r))
	}
	return all, nil
}

// RemoveInstance makes the instance's network be gone; if it is, or never was, that is fine. Its rules and its address are free at once. The kernel
// removes the interfaces in the background, when no process is in the network namespace any longer.
func (n *Net) RemoveInstance(ctx context.Context, instance string) error {
	if !trove.ValidID(instance) {
		return bad("%q is not the id of an instance.", instance)
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, found, err := n.d.find(instance)
	if err != nil {
		return err
	}
	if err := netns.Remove(n.d.netns(instance)); err != nil || !found {
		return err
	}
	if err := n.unfilter(r); err != nil {
		return err
	}
	if err := n.forget(r); err != nil {
		return err
	}
	if err := n.ownAddresses(r, false); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(n.d.records(), r.file())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the network of instance %s: %w", instance, err)
	}
	for _, thing := range claimed(r) {
		n.disclaim(thing, instance)
	}
	if !r.rules.Public {
		return nil
	}
	return n.routeFor(ctx)
}

// unfilter removes the instance's rules: its ports, if they are still there, drop everything from now on.
func (n *Net) unfilter(r record) error {
	f, err := n.filters()
	if err != nil {
		return err
	}
	if err := errors.Join(f.withoutInstance(r, n.management), f.withoutInstance(r, n.tenant), f.unpublish(r)); err != nil {
		return err
	}
	err = f.commit()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	// Some are missing: everything is made anew without this instance.
	others, err := n.others(r.instance)
	if err != nil {
		return err
	}
	return n.refilter(others)
}
