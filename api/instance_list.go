package api

import (
	"context"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func (s *server) listInstances(ctx context.Context, c *call) (any, error) {
	return s.instancePage(ctx, c, view{})
}

func (s *server) detailInstances(ctx context.Context, c *call) (any, error) {
	return s.instancePage(ctx, c, view{detail: true})
}

// instancePage reads a page in the order of ids and shows it newest first, as Trove does.
func (s *server) instancePage(ctx context.Context, c *call, v view) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Store.Instances(ctx, store.InstanceFilter{ProjectID: c.project, Marker: unquote(p.marker), Limit: p.limit + 1})
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	var out wire.InstanceList
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
		out.InstancesLinks = out.Links
	}
	replicas, err := s.replicasOf(ctx, found)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b trove.Instance) int { return b.Created.Compare(a.Created) })
	out.Instances = make([]wire.Instance, len(found))
	for n := range found {
		if out.Instances[n], err = s.viewInstance(ctx, c, &found[n], replicas[found[n].ID], v); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

func (s *server) replicasOf(ctx context.Context, found []trove.Instance) (map[string][]string, error) {
	ids := make([]string, len(found))
	for n := range found {
		ids[n] = found[n].ID
	}
	if len(ids) == 0 {
		return nil, nil //nolint:nilnil // no instances, no replicas
	}
	replicas, err := s.cfg.Store.Replicas(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("list the replicas: %w", err)
	}
	return replicas, nil
}

func (s *server) showInstance(ctx context.Context, c *call) (any, error) {
	replicas, err := s.replicasOf(ctx, []trove.Instance{c.instance})
	if err != nil {
		return nil, err
	}
	out, err := s.viewInstance(ctx, c, &c.instance, replicas[c.instance.ID], view{detail: true, usage: true})
	if err != nil {
		return nil, err
	}
	return &wire.InstanceBody{Instance: out}, nil
}
