package specs

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// GroupOf says what the machine of an instance is placed by: its own locality, or that of its primary, with the other instances of its cluster or replica set.
func GroupOf(ctx context.Context, r store.Reader, i *trove.Instance) (cloud.Group, error) {
	g := cloud.Group{ID: i.ID, Policy: cloud.Policy(i.Locality)}
	if i.ReplicaOf != "" {
		g.ID = i.ReplicaOf
		primary, err := r.Instance(ctx, i.ReplicaOf)
		switch {
		case err != nil && !trove.IsNotFound(err):
			return cloud.Group{}, err //nolint:wrapcheck // the caller says of what
		case err == nil && g.Policy == "":
			g.Policy = cloud.Policy(primary.Locality)
		}
	}
	if g.Policy == "" {
		return cloud.Group{}, nil
	}
	var err error
	if i.ClusterID != "" {
		g.ID = i.ClusterID
		var all []trove.Instance
		all, err = r.Instances(ctx, store.InstanceFilter{ProjectID: i.ProjectID, Cluster: &i.ClusterID})
		for n := range all {
			g.Peers = append(g.Peers, all[n].ID)
		}
	} else {
		var replicas map[string][]string
		replicas, err = r.Replicas(ctx, g.ID)
		g.Peers = append([]string{g.ID}, replicas[g.ID]...)
	}
	g.Peers = slices.DeleteFunc(g.Peers, func(peer string) bool { return peer == i.ID })
	return g, err //nolint:wrapcheck // the caller says of what
}
