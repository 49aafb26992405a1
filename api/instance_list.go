package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func (s *server) listInstances(ctx context.Context, c *call) (any, error) {
	page, err := s.readInstances(ctx, c)
	if err != nil {
		return nil, err
	}
	page.now = s.cfg.Clock.Now()
	return page, nil
}

// addVersions adds the datastore versions of the instances, and the replicas of those whose version can have any.
func (s *server) addVersions(ctx context.Context, page *instancePage, found []trove.Instance) error {
	page.versions = make(map[string]trove.DatastoreVersion, 1)
	var primaries []trove.Instance
	for n := range found {
		id := found[n].DatastoreVersionID
		v, seen := page.versions[id]
		if !seen {
			var err error
			if v, _, err = s.datastoreVersion(ctx, id); err != nil {
				return err
			}
			page.versions[id] = v
		}
		if v.ID == "" || v.Capabilities.Replication {
			primaries = append(primaries, found[n])
		}
	}
	var err error
	page.replicas, err = s.replicasOf(ctx, primaries)
	return err
}

func (s *server) detailInstances(ctx context.Context, c *call) (any, error) {
	page, err := s.readInstances(ctx, c)
	if err != nil {
		return nil, err
	}
	out := wire.InstanceList{Instances: make([]wire.Instance, len(page.found)), Links: page.next, InstancesLinks: page.next}
	for n := range page.found {
		i := &page.found[n]
		if out.Instances[n], err = s.viewInstance(ctx, c, i, page.replicas[i.ID], view{detail: true}); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// readInstances reads a page in the order of ids and puts the newest first, as Trove does.
func (s *server) readInstances(ctx context.Context, c *call) (*instancePage, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f := store.InstanceFilter{ProjectID: c.project, Marker: unquote(p.marker), Limit: p.limit + 1, Cluster: inAnyCluster(c)}
	found, err := s.cfg.Store.Instances(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	out := &instancePage{call: c}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.next = c.nextLink(found[p.limit-1].ID)
	}
	if err := s.addVersions(ctx, out, found); err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b trove.Instance) int { return b.Created.Compare(a.Created) })
	out.found = found
	return out, nil
}

// noCluster is the filter that leaves out the members of clusters.
var noCluster = new("")

// inAnyCluster reads whether the members of clusters are to be listed too.
func inAnyCluster(c *call) *string {
	if strings.EqualFold(c.req.URL.Query().Get("include_clustered"), "true") {
		return nil
	}
	return noCluster
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
