package reconcilers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Leftovers removes what the cloud has of instances that are deleted or were never known, after a time of grace: a worker that was cut off may
// still finish its last call after another one has cleaned up. What the store never knew waits much longer, because a store that was
// restored from an old copy does not know its youngest instances.
type Leftovers struct {
	cfg Config

	found map[string]struct{} // of which instances machines or volumes were just listed; nil: Candidates lists them

	mu    sync.Mutex
	since map[string]time.Time // when it was seen first without an owner
	held  map[string]bool      // it was told of
}

func newLeftovers(c Config) *Leftovers {
	return &Leftovers{cfg: c, since: map[string]time.Time{}, held: map[string]bool{}}
}

// Candidates returns the instances of everything that the cloud has, in order.
func (l *Leftovers) Candidates(ctx context.Context) ([]string, error) {
	ids, err := l.listed(ctx)
	if err != nil {
		return nil, err
	}
	networks, err := l.cfg.Cloud.Networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range networks {
		ids[n.Instance] = struct{}{}
	}
	if g, ok := l.cfg.Cloud.(cloud.Grouper); ok {
		empty, err := g.EmptyGroups(ctx)
		if err != nil {
			return nil, fmt.Errorf("list groups of machines: %w", err)
		}
		for _, id := range empty {
			ids[id] = struct{}{}
		}
	}
	l.mu.Lock()
	forget(l.since, ids)
	l.mu.Unlock()
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	slices.Sort(list)
	return list, nil
}

// listed returns the instances of all machines and volumes.
func (l *Leftovers) listed(ctx context.Context) (map[string]struct{}, error) {
	if ids := l.found; ids != nil {
		l.found = nil
		return ids, nil
	}
	ids := map[string]struct{}{}
	machines, err := l.cfg.Cloud.Machines(ctx)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	for _, m := range machines {
		ids[m.Instance] = struct{}{}
	}
	volumes, err := l.cfg.Cloud.Volumes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, v := range volumes {
		ids[v.Instance] = struct{}{}
	}
	return ids, nil
}

// waiting is about those alone that were seen without an owner: it asks the cloud nothing.
type waiting struct{ *Leftovers }

// Candidates returns their instances, in order.
func (w waiting) Candidates(context.Context) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.since)), nil
}

// ReconcileOne removes what the cloud has of the instance, if nobody owns it and it was seen without an owner for the time of grace.
func (l *Leftovers) ReconcileOne(ctx context.Context, id string) error {
	if !trove.ValidID(id) {
		return nil // not ours
	}
	owned, known, err := l.owned(ctx, id)
	if err != nil {
		return err
	}
	grace := l.cfg.UnknownGrace
	if known {
		grace = l.cfg.Grace
	}
	if owned {
		l.clear(id)
		return nil
	}
	if l.cfg.Hold != nil && l.cfg.Hold(ctx) {
		l.keep(ctx, id, known)
		return nil
	}
	if !l.overdue(id, grace) {
		return nil
	}
	l.cfg.Log.WarnContext(ctx, "things without an owner were removed from the cloud", "instance", id, "known", known)
	if err := removeAll(ctx, l.cfg.Cloud, id); err != nil {
		return err
	}
	l.clear(id)
	return nil
}

// owned reports whether something may be in the cloud for the instance: it lives and was not emptied by a failed create, or an operation is
// open. Known says that the store has or had the instance.
func (l *Leftovers) owned(ctx context.Context, id string) (owned, known bool, err error) {
	ops, err := l.cfg.Store.Operations(ctx, id, 1)
	if err != nil {
		return false, false, fmt.Errorf("read the operations of %s: %w", id, err)
	}
	known = len(ops) > 0
	if known && ops[0].State == trove.OperationOpen {
		return true, true, nil
	}
	i, err := l.cfg.Store.Instance(ctx, id)
	switch {
	case trove.IsNotFound(err):
		return false, known, nil
	case err != nil:
		return false, known, fmt.Errorf("read instance %s: %w", id, err)
	}
	// A create that failed has emptied the row. One that took over what another Trove has made leaves the volume in it: that and the ports are the tenant's.
	return i.ServerStatus != trove.ServerNone || !i.Task.IsError() || i.VolumeID != "", true, nil
}

// keep tells once that something without an owner was found. The time of grace begins when nothing is held any more.
func (l *Leftovers) keep(ctx context.Context, id string, known bool) {
	l.mu.Lock()
	told := l.held[id]
	l.held[id] = true
	delete(l.since, id)
	l.mu.Unlock()
	if !told {
		l.cfg.Log.WarnContext(ctx, "things without an owner are kept until the restore is finished", "instance", id, "known", known)
	}
}

func (l *Leftovers) overdue(id string, grace time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Clock.Now()
	since, seen := l.since[id]
	if !seen {
		l.since[id] = now
		return grace <= 0
	}
	return now.Sub(since) >= grace
}

func (l *Leftovers) clear(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, id)
}
