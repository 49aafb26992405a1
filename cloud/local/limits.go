package local

import (
	"context"
	"time"

	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/internal/clock"
)

// limitsPeriod is how often is looked whether instances ran into their limits.
const limitsPeriod = 3 * time.Second

// watchLimits counts and logs until the context ends when an instance runs into a limit.
func (p *Provider) watchLimits(ctx context.Context) {
	known := map[string]cgroup.Events{}
	first := true
	for {
		p.lookAtLimits(ctx, known, first)
		first = false
		if clock.Sleep(ctx, limitsPeriod) != nil {
			return
		}
	}
}

// lookAtLimits compares the events of all groups with those that are known. What had happened before the first look is nobody's news.
func (p *Provider) lookAtLimits(ctx context.Context, known map[string]cgroup.Events, first bool) {
	ids, err := p.runtime.Groups.Groups(p.runtime.Parent)
	if err != nil {
		p.config.Log.WarnContext(ctx, "limits of instances were not looked at", "err", err)
		return
	}
	there := map[string]bool{}
	for _, id := range ids {
		there[id] = true
		now, err := p.runtime.Groups.Events(p.runtime.Group(id))
		if err != nil {
			continue // it is being removed
		}
		before := known[id]
		known[id] = now
		if first || now == before {
			continue
		}
		p.hit(ctx, id, "memory", before.Killed, now.Killed)
		p.hit(ctx, id, "processes", before.Refused, now.Refused)
	}
	for id := range known {
		if !there[id] {
			delete(known, id)
		}
	}
}

func (p *Provider) hit(ctx context.Context, id, limit string, before, now uint64) {
	if now < before {
		before = 0 // the sandbox was started again
	}
	if now == before {
		return
	}
	p.metrics.hits.WithLabelValues(limit).Add(float64(now - before))
	p.config.Log.WarnContext(ctx, "instance ran into a limit", "instance", id, "limit", limit, "times", now-before)
}
