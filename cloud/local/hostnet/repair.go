package hostnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/trove-dbaas/trove/internal/netns"
)

// repair makes everything true that the records say. The caller has the lock.
func (n *Net) repair(ctx context.Context) error {
	if err := n.ensureBridges(); err != nil {
		return err
	}
	all, err := n.d.readRecords()
	if err != nil {
		return err
	}
	if err := n.readRouted(); err != nil {
		return err
	}
	if err := n.refilter(all); err != nil {
		return err
	}
	if err := n.route(ctx, slices.ContainsFunc(all, n.published), func() error { return n.refilter(all) }); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range all {
		if ctx.Err() != nil {
			return fmt.Errorf("make the networks of the instances: %w", context.Cause(ctx))
		}
		if err := n.connect(ctx, r); err != nil {
			return fmt.Errorf("network of instance %s: %w", r.instance, err)
		}
		if err := n.republish(ctx, r); err != nil {
			return fmt.Errorf("public address of instance %s: %w", r.instance, err)
		}
		known[r.instance] = true
		known[n.d.port(n.management, r.number)] = true
		known[n.d.port(n.tenant, r.number)] = true
	}
	if n.keep {
		return nil
	}
	return n.sweep(known)
}

// republish makes the public addresses of an instance be there again.
func (n *Net) republish(ctx context.Context, r record) error {
	if len(claimed(r)) == 0 {
		return nil
	}
	lost, err := n.reclaim(ctx, r)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		n.log.ErrorContext(ctx, "another deployment of this machine has a public port or address of an instance: one of the two must be removed",
			"instance", r.instance, "taken", lost)
	}
	if err := n.ownAddresses(r, n.published(r)); err != nil {
		// One interface that is not there must not keep the other instances from their networks.
		n.log.ErrorContext(ctx, "the public addresses of an instance are not there", "instance", r.instance, "err", err)
	}
	return nil
}

// refilter replaces both tables, in one transaction, by what the records say. Packets meet the old rules or the new ones, never none.
func (n *Net) refilter(all []record) error {
	f, err := n.filters()
	if err != nil {
		return err
	}
	f.remove()
	if err := f.base(); err != nil {
		return err
	}
	for _, r := range all {
		if err := f.instance(r); err != nil {
			return err
		}
	}
	return f.commit()
}

// others returns all records but the instance's.
func (n *Net) others(instance string) ([]record, error) {
	all, err := n.d.readRecords()
	return slices.DeleteFunc(all, func(r record) bool { return r.instance == instance }), err
}

// sweep removes namespaces and ports of the deployment that no record knows.
func (n *Net) sweep(known map[string]bool) error {
	spaces, err := os.ReadDir(n.d.namespaces())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	for _, e := range spaces {
		if known[e.Name()] {
			continue
		}
		if err := netns.Remove(n.d.netns(e.Name())); err != nil {
			return err
		}
	}
	links, err := listLinks()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; n.d.isPort(name) && !known[name] {
			if err := removeLink(name); err != nil {
				return err
			}
		}
	}
	n.sweepClaims(known)
	return n.sweepNeighbours()
}

// sweepNeighbours removes what the bridges noted of addresses that no instance has.
func (n *Net) sweepNeighbours() error {
	all, err := n.d.readRecords()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, r := range all {
		used[r.address(n.management).String()] = true
		used[r.address(n.tenant).String()] = true
		used[r.address6(n.tenant).String()] = true
	}
	for _, s := range []side{n.management, n.tenant} {
		bridge, err := netlink.LinkByName(s.bridge)
		if err != nil {
			return fmt.Errorf("find the bridge %s: %w", s.bridge, err)
		}
		noted, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(bridge.Attrs().Index, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for _, e := range noted {
			if e.State == netlink.NUD_PERMANENT && !used[e.IP.String()] {
				_ = netlink.NeighDel(&e)
			}
		}
	}
	return nil
}

// Destroy removes everything of this deployment's network: interfaces, bridges, filters, namespaces and files. It may be repeated.
func (n *Net) Destroy(ctx context.Context) error {
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return n.destroy(ctx)
}

// Destroy removes everything that the deployment of a state directory has of the host's network, without opening it before. It may be repeated; a
// directory that is not there had nothing.
func Destroy(ctx context.Context, state string) error {
	if _, err := os.Stat(state); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	d, err := newDeployment(state)
	if err != nil {
		return fmt.Errorf("remove the network: %w", err)
	}
	if _, err := os.Stat(d.run()); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(d.run(), 0o711); err != nil { //nolint:gosec // as Open makes it
			return fmt.Errorf("remove the network: %w", err)
		}
	}
	n, err := newNet(d)
	if err != nil {
		return err
	}
	defer n.forgetAll()
	return n.Destroy(ctx)
}

func (n *Net) destroy(ctx context.Context) error {
	spaces, err := os.ReadDir(n.d.namespaces())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	for _, e := range spaces {
		if err := netns.Remove(n.d.netns(e.Name())); err != nil {
			return err
		}
	}
	links, err := listLinks()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if n.d.isPort(l.Attrs().Name) {
			if err := removeLink(l.Attrs().Name); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(removeLink(n.management.bridge), removeLink(n.tenant.bridge)); err != nil {
		return err
	}
	if err := n.readRouted(); err != nil {
		return err
	}
	n.sweepClaims(nil)
	if err := n.route(ctx, false, func() error { return nil }); err != nil {
		return err
	}
	// The filters are last: nothing is without them while it is there.
	f, err := n.filters()
	if err != nil {
		return err
	}
	f.remove()
	if err := f.commit(); err != nil {
		return err
	}
	n.closeFilters()
	for _, path := range []string{n.d.namespaces(), n.d.records(), n.d.rangesFile(), n.d.routedFile(), n.d.lockFile()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the network: %w", err)
		}
	}
	_ = os.Remove(n.d.run()) // if nothing else of the deployment is there
	return nil
}
