package local

import (
	"context"
	"errors"
	"os"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/clock"
)

// DefaultTend is how often limits and reservations are compared with what they should be.
const DefaultTend = 15 * time.Second

// tendInstances mends what somebody else has changed on instances until the context ends: limits of running ones, and the space that is reserved for volumes.
func (p *Provider) tendInstances(ctx context.Context) {
	for {
		ids, err := p.paths.instances()
		if err != nil {
			p.config.Log.WarnContext(ctx, "instances were not looked at", "err", err)
		}
		for _, id := range ids {
			if err := errors.Join(p.tendLimits(ctx, id), p.tendSpace(ctx, id)); err != nil && ctx.Err() == nil {
				p.config.Log.WarnContext(ctx, "instance was not mended", "instance", id, "err", err)
			}
		}
		if pool, err := p.Pool(); err == nil {
			p.watchPool(ctx, pool)
		}
		if clock.Sleep(ctx, p.config.Tend) != nil {
			return
		}
	}
}

// tendLimits puts the limits of a running machine into force again if they are not: they were changed by hand, or its processes were moved away.
func (p *Provider) tendLimits(ctx context.Context, id string) error {
	if why, err := p.drift(id); err != nil || why == "" {
		return err
	}
	unlock, err := p.paths.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock(false)
	why, err := p.drift(id) // it may have been resized or started just now
	if err != nil || why == "" {
		return err
	}
	rec, err := p.machineRecord(id)
	if err != nil {
		return err
	}
	process, err := p.runtime.Find(id)
	if err != nil {
		return err
	}
	pids, err := process.Processes()
	if err != nil {
		return err
	}
	if err := p.runtime.Groups.Gather(p.runtime.Group(id), pids); err != nil {
		return err
	}
	if err := p.runtime.Groups.Set(p.runtime.Group(id), limits(rec.Flavor, p.device(id))); err != nil {
		return err
	}
	p.config.Log.WarnContext(ctx, "limits were not in force and are again", "instance", id, "why", why)
	p.mended(ctx, id, "limits", "The limits of the instance were not in force: "+why+". They are again.")
	return nil
}

// drift says what of a running machine's limits is not in force, "" if all is, or there is no running machine.
func (p *Provider) drift(id string) (string, error) {
	rec, err := p.machineRecord(id)
	if trove.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	process, err := p.runtime.Find(id)
	if errors.Is(err, sandbox.ErrNotRunning) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	group := p.runtime.Group(id)
	held, err := p.runtime.Groups.Holds(group, process.PID)
	if err != nil {
		if _, gone := p.runtime.Find(id); errors.Is(gone, sandbox.ErrNotRunning) {
			return "", nil
		}
		return "", err
	}
	if !held {
		return "its processes were not in its control group", nil
	}
	device := p.device(id)
	want := limits(rec.Flavor, device)
	if !p.runtime.Groups.LimitsIO(group) {
		want.IO, device = cgroup.IO{}, ""
	}
	got, err := p.runtime.Groups.Get(group, device)
	if errors.Is(err, os.ErrNotExist) {
		return "its control group was not whole", nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case !nearly(got.Memory, want.Memory):
		return "memory was changed", nil
	case got.CPU != want.CPU:
		return "the share of the cores was changed", nil
	case got.PIDs != want.PIDs:
		return "the number of processes was changed", nil
	case got.IO != want.IO:
		return "the traffic with the volume was changed", nil
	}
	return "", nil
}

// nearly compares what was written with what the kernel made of it: it rounds memory to pages.
func nearly(got, want int64) bool { return got <= want && want-got < int64(os.Getpagesize()) }

// tendSpace gives a volume whose space is to be reserved the blocks that it lacks: it was made with overcommit, or somebody's fstrim has made holes.
func (p *Provider) tendSpace(ctx context.Context, id string) error {
	lacks := func() int64 {
		promised, err := p.promised(id)
		info, statErr := os.Stat(p.paths.image(id))
		if err != nil || statErr != nil || info.Size() != promised {
			return 0 // an operation works on it
		}
		return promised - blocksOf(p.paths.image(id))
	}
	if !p.reserve() || lacks() <= 0 {
		return nil
	}
	unlock, err := p.paths.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock(false)
	missing := lacks()
	if missing <= 0 {
		return nil
	}
	promised, err := p.promised(id)
	if err != nil {
		return err
	}
	err = volume.Extend(p.paths.image(id), p.paths.in(id, "data"), promised, true)
	if errors.Is(err, volume.ErrNoSpace) {
		p.warnOnce(ctx, "space for a volume could not be reserved afterwards", "instance", id, "missing", missing)
		return nil
	}
	if err != nil {
		return err
	}
	p.config.Log.WarnContext(ctx, "space of a volume was not reserved and is now", "instance", id, "bytes", missing)
	p.mended(ctx, id, "space", "A part of the space of the volume was not reserved on the host. It is now.")
	return nil
}

// mended tells of something that was put right.
func (p *Provider) mended(ctx context.Context, id, what, sentence string) {
	p.metrics.mended.WithLabelValues(what).Inc()
	if p.config.Mended != nil {
		p.config.Mended(ctx, id, what, sentence)
	}
}
