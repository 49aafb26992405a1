package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/trove-dbaas/trove/api/wire"
)

// Clusters returns the project's clusters.
func (c *Client) Clusters(ctx context.Context) ([]wire.Cluster, error) {
	var all []wire.Cluster
	err := pages(func(marker string) ([]wire.Link, error) {
		var out wire.ClusterList
		err := c.do(ctx, http.MethodGet, "/clusters"+ListOptions{Marker: marker}.query(), nil, &out)
		all = append(all, out.Clusters...)
		return out.Links, err
	})
	return all, err
}

func clusterPath(id string, more ...string) string {
	return "/clusters/" + strings.Join(append([]string{url.PathEscape(id)}, more...), "/")
}

// Cluster returns the cluster with the id.
func (c *Client) Cluster(ctx context.Context, id string) (wire.Cluster, error) {
	var out wire.ClusterBody
	err := c.do(ctx, http.MethodGet, clusterPath(id), nil, &out)
	return out.Cluster, err
}

// FindCluster returns the cluster with the id or the name. Two of the same name are an error that lists their ids.
func (c *Client) FindCluster(ctx context.Context, idOrName string) (wire.Cluster, error) {
	cl, err := c.Cluster(ctx, idOrName)
	if err == nil || !IsNotFound(err) {
		return cl, err
	}
	all, err := c.Clusters(ctx)
	if err != nil {
		return cl, err
	}
	names := make([]named, len(all))
	for n, cl := range all {
		names[n] = named{cl.ID, cl.Name}
	}
	id, err := pick("cluster", "cluster", idOrName, names)
	if err != nil {
		return cl, err
	}
	return c.Cluster(ctx, id)
}

// CreateCluster asks for a cluster and returns it as it is then.
func (c *Client) CreateCluster(ctx context.Context, spec wire.ClusterCreate) (wire.Cluster, error) {
	var out wire.ClusterBody
	err := c.create(ctx, "/clusters", wire.ClusterCreateBody{Cluster: spec}, &out)
	return out.Cluster, err
}

// DeleteCluster asks for the cluster to be removed with its members.
func (c *Client) DeleteCluster(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, clusterPath(id), nil, nil)
}

// ClusterInstance returns a member of a cluster.
func (c *Client) ClusterInstance(ctx context.Context, cluster, instance string) (wire.Instance, error) {
	var out wire.InstanceBody
	err := c.do(ctx, http.MethodGet, clusterPath(cluster, "instances", url.PathEscape(instance)), nil, &out)
	return out.Instance, err
}

func (c *Client) clusterAction(ctx context.Context, id string, a wire.ClusterAction) error {
	return c.do(ctx, http.MethodPost, clusterPath(id), a, nil)
}

// GrowCluster adds members.
func (c *Client) GrowCluster(ctx context.Context, id string, nodes ...wire.ClusterNode) error {
	return c.clusterAction(ctx, id, wire.ClusterAction{Grow: nodes})
}

// ShrinkCluster removes members by their ids.
func (c *Client) ShrinkCluster(ctx context.Context, id string, instances ...string) error {
	var a wire.ClusterAction
	for _, i := range instances {
		a.Shrink = append(a.Shrink, wire.InstanceID{ID: i})
	}
	return c.clusterAction(ctx, id, a)
}

// UpgradeCluster gives the members another datastore version.
func (c *Client) UpgradeCluster(ctx context.Context, id, version string) error {
	return c.clusterAction(ctx, id, wire.ClusterAction{Upgrade: &wire.ClusterUpgrade{DatastoreVersion: version}})
}

// RestartCluster restarts the members one after another.
func (c *Client) RestartCluster(ctx context.Context, id string) error {
	return c.clusterAction(ctx, id, wire.ClusterAction{Restart: &struct{}{}})
}

// ResetClusterStatus clears a task of the cluster and of its members that is stuck. It needs the role admin, unless it is for a deletion.
func (c *Client) ResetClusterStatus(ctx context.Context, id string, deletion bool) error {
	var reset wire.ResetBody
	if deletion {
		reset.ForceDelete = 1
	}
	return c.clusterAction(ctx, id, wire.ClusterAction{ResetStatus: &reset})
}
