package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func clusterOperations() []Operation {
	const one, mgmt = "/clusters/{cluster}", "/mgmt/clusters"
	return []Operation{
		{
			ID: "listClusters", Method: http.MethodGet, Path: "/clusters", Rule: "cluster:index", Summary: "List the project's clusters.",
			Query: paged, Success: http.StatusOK, Response: wire.ClusterList{}, handle: (*server).listClusters,
		},
		{
			ID: "createCluster", Method: http.MethodPost, Path: "/clusters", Rule: "cluster:create", Schema: "cluster-create.json",
			Summary: "Create a cluster. Refused for now with 501, after everything else was checked.",
			Creates: true, Success: http.StatusOK, Response: wire.ClusterBody{}, handle: (*server).createCluster,
		},
		{
			ID: "showCluster", Method: http.MethodGet, Path: one, Rule: "cluster:show", Summary: "Show a cluster with its members.",
			Success: http.StatusOK, Response: wire.ClusterBody{}, handle: (*server).showCluster,
		},
		{
			ID: "actOnCluster", Method: http.MethodPost, Path: one, Schema: "cluster-action.json",
			Summary: "Reset the status of a cluster and its members; the other actions are refused for now with 501. cluster:reset-status, cluster:force_delete and cluster:action are the policy rules.",
			Success: http.StatusAccepted, Response: wire.ClusterBody{}, handle: (*server).actOnCluster,
		},
		{
			ID: "deleteCluster", Method: http.MethodDelete, Path: one, Rule: "cluster:delete",
			Summary: "Delete a cluster. Refused for now with 501 while it has members.", Success: http.StatusAccepted, handle: (*server).deleteCluster,
		},
		{
			ID: "showClusterInstance", Method: http.MethodGet, Path: one + "/instances/{member}", Rule: "cluster:show_instance",
			Summary: "Show a member of a cluster.", Success: http.StatusOK, Response: wire.InstanceBody{}, handle: (*server).showClusterInstance,
		},
		{
			ID: "showClusterRoot", Method: http.MethodGet, Path: one + "/root", Rule: "cluster:extension:root:index",
			Summary: "Refused with 400, as in Trove for every datastore.", Success: http.StatusOK, handle: clusterRoot("show_root"),
		},
		{
			ID: "enableClusterRoot", Method: http.MethodPost, Path: one + "/root", Rule: "cluster:extension:root:create", Schema: "root-enable.json",
			OptionalBody: true, Summary: "Refused with 400, as in Trove for every datastore.", Creates: true, Success: http.StatusOK, handle: clusterRoot("enable_root"),
		},
		{
			ID: "disableClusterRoot", Method: http.MethodDelete, Path: one + "/root", Rule: "cluster:extension:root:delete",
			Summary: "Refused with 400, as in Trove for every datastore.", Success: http.StatusOK, handle: clusterRoot("disable_root"),
		},
		{
			ID: "listAllClusters", Method: http.MethodGet, Path: mgmt, Admin: true, Summary: "List the clusters of all projects; administrators only.",
			Query:   append([]Query{{"deleted", "boolean", "only deleted or only living ones; both without it"}}, paged...),
			Success: http.StatusOK, Response: wire.ClusterList{}, handle: (*server).listAllClusters,
		},
		{
			ID: "showAnyCluster", Method: http.MethodGet, Path: mgmt + "/{cluster}", Admin: true, Summary: "Show any cluster; administrators only.",
			Success: http.StatusOK, Response: wire.ClusterBody{}, handle: (*server).showAnyCluster,
		},
		{
			ID: "manageCluster", Method: http.MethodPost, Path: mgmt + "/{cluster}/action", Admin: true, Schema: "mgmt-cluster-action.json",
			Summary: "Clear the task of a cluster; administrators only.", Success: http.StatusAccepted, handle: (*server).manageCluster,
		},
	}
}

// findCluster finds a living cluster and checks the rule against its project. Somebody else's is not there, except for administrators.
func (s *server) findCluster(ctx context.Context, c *call, rule string) (trove.Cluster, error) {
	id := c.params.get("cluster")
	cl, err := s.cfg.Store.Cluster(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return cl, fmt.Errorf("read the cluster: %w", err)
	}
	if err != nil || !cl.DeletedAt.IsZero() || cl.ProjectID != c.project && !c.admin {
		return cl, trove.Errorf(trove.KindNotFound, "Cluster '%s' cannot be found.", id)
	}
	return cl, s.enforce(c, rule, cl.ProjectID)
}

// members is the filter for the members of a cluster, which are of its project.
func members(cl *trove.Cluster) store.InstanceFilter {
	return store.InstanceFilter{ProjectID: cl.ProjectID, Cluster: &cl.ID}
}

func (s *server) membersOf(ctx context.Context, cl *trove.Cluster) ([]trove.Instance, error) {
	found, err := s.cfg.Store.Instances(ctx, members(cl))
	if err != nil {
		return nil, fmt.Errorf("list the members of the cluster: %w", err)
	}
	return found, nil
}

// viewCluster makes the wire form of a cluster; what is told of its members beside their names is for a cluster that is shown alone.
func (s *server) viewCluster(ctx context.Context, c *call, cl *trove.Cluster, alone bool) (wire.Cluster, error) {
	out := wire.Cluster{
		ID: cl.ID, Name: cl.Name, Task: wire.ClusterTask{ID: int(cl.Task), Name: cl.Task.Name(), Description: cl.Task.Description()},
		Created: wire.Time(cl.Created), Updated: wire.Time(cl.Updated), Links: c.links("clusters", cl.ID), Instances: []wire.ClusterMember{},
		Configuration: cl.ConfigurationID,
	}
	version, known, err := s.datastoreVersion(ctx, cl.DatastoreVersionID)
	if err != nil {
		return out, err
	}
	if known {
		out.Datastore = wire.DatastoreRef{Type: &version.DatastoreName, Version: &version.Name}
	}
	all, err := s.membersOf(ctx, cl)
	if err != nil {
		return out, err
	}
	for n := range all {
		i := &all[n]
		m := wire.ClusterMember{ID: i.ID, Name: i.Name, Type: i.MemberType, Links: c.links("instances", i.ID), ShardID: i.ShardID}
		if alone {
			m.Status, m.Flavor = i.Status(i.BackingUp), &wire.FlavorRef{ID: i.FlavorID, Links: c.links("flavors", i.FlavorID)}
			if i.VolumeSize > 0 {
				m.Volume = &wire.Volume{Size: i.VolumeSize}
			}
			for _, a := range i.Addresses {
				m.IP = append(m.IP, wire.Address(a))
			}
			out.IP = append(out.IP, m.IP...)
			if i.Locality != "" {
				out.Locality = i.Locality
			}
		}
		out.Instances = append(out.Instances, m)
	}
	return out, nil
}

func (s *server) listClusters(ctx context.Context, c *call) (any, error) {
	return s.clusterPage(ctx, c, store.ClusterFilter{ProjectID: c.project, Deleted: new(false)}, false)
}

func (s *server) clusterPage(ctx context.Context, c *call, f store.ClusterFilter, mgmt bool) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f.Marker, f.Limit = unquote(p.marker), p.limit+1
	found, err := s.cfg.Store.Clusters(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the clusters: %w", err)
	}
	out := wire.ClusterList{Clusters: []wire.Cluster{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
	}
	for n := range found {
		v, err := s.viewCluster(ctx, c, &found[n], false)
		if err != nil {
			return nil, err
		}
		if mgmt {
			addManaged(&v, &found[n])
		}
		out.Clusters = append(out.Clusters, v)
	}
	return &out, nil
}

// addManaged adds what administrators see.
func addManaged(v *wire.Cluster, cl *trove.Cluster) {
	v.TenantID, v.Deleted = cl.ProjectID, new(!cl.DeletedAt.IsZero())
}

func (s *server) showCluster(ctx context.Context, c *call) (any, error) {
	cl, err := s.findCluster(ctx, c, "cluster:show")
	if err != nil {
		return nil, err
	}
	v, err := s.viewCluster(ctx, c, &cl, true)
	if err != nil {
		return nil, err
	}
	return &wire.ClusterBody{Cluster: v}, nil
}

func (s *server) showClusterInstance(ctx context.Context, c *call) (any, error) {
	cl, err := s.findCluster(ctx, c, "cluster:show_instance")
	if err != nil {
		return nil, err
	}
	id := c.params.get("member")
	all, err := s.membersOf(ctx, &cl)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(i trove.Instance) bool { return i.ID == id })
	if n < 0 {
		return nil, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	c.instance = all[n]
	return s.showInstance(ctx, c)
}

// deleteCluster removes a cluster that has no members any more. To remove those too is an action, which is not done yet.
func (s *server) deleteCluster(ctx context.Context, c *call) (any, error) {
	cl, err := s.findCluster(ctx, c, "cluster:delete")
	if err != nil {
		return nil, err
	}
	if err := cl.CheckIdle(trove.ClusterDeleting); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.DeleteCluster(ctx, cl.ID, s.cfg.Clock.Now()); err != nil { // first: who adds a member meanwhile writes its row
			return err
		}
		left, err := tx.Instances(ctx, members(&cl))
		if err == nil && len(left) > 0 {
			err = notYet(noClusters)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delete the cluster: %w", err)
	}
	return nil, nil
}

// clusterRoot answers for root calls on a cluster. They find it in the caller's own project alone, as those on instances do.
func clusterRoot(operation string) handler {
	return func(s *server, ctx context.Context, c *call) (any, error) {
		cl, err := s.cfg.Store.Cluster(ctx, c.params.get("cluster"))
		if err != nil && !trove.IsNotFound(err) {
			return nil, fmt.Errorf("read the cluster: %w", err)
		}
		if err != nil || !cl.DeletedAt.IsZero() || cl.ProjectID != c.project {
			return nil, noSuchCluster()
		}
		return nil, bad("The '%s' operation is not supported for cluster.", operation)
	}
}

func noSuchCluster() error { return trove.Errorf(trove.KindNotFound, "DBCluster Not Found") }

// anyCluster finds the cluster of a call of an administrator, also a deleted one.
func (s *server) anyCluster(ctx context.Context, c *call) (trove.Cluster, error) {
	cl, err := s.cfg.Store.Cluster(ctx, c.params.get("cluster"))
	if trove.IsNotFound(err) {
		return cl, noSuchCluster()
	}
	if err != nil {
		return cl, fmt.Errorf("read the cluster: %w", err)
	}
	return cl, nil
}

func (s *server) listAllClusters(ctx context.Context, c *call) (any, error) {
	var f store.ClusterFilter
	if text := c.req.URL.Query().Get("deleted"); text != "" {
		f.Deleted = new(isTrue(text))
	}
	return s.clusterPage(ctx, c, f, true)
}

func (s *server) showAnyCluster(ctx context.Context, c *call) (any, error) {
	cl, err := s.anyCluster(ctx, c)
	if err != nil {
		return nil, err
	}
	v, err := s.viewCluster(ctx, c, &cl, true)
	if err != nil {
		return nil, err
	}
	addManaged(&v, &cl)
	return &wire.ClusterBody{Cluster: v}, nil
}

// manageCluster clears the task. Nothing runs on clusters, so that none can be in the way.
func (s *server) manageCluster(ctx context.Context, c *call) (any, error) {
	cl, err := s.anyCluster(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(c.body) != 1 || !c.body.has("reset-task") {
		return nil, bad("Exactly one action is expected: ['reset-task'].")
	}
	if !cl.DeletedAt.IsZero() {
		return nil, noSuchCluster()
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateCluster(ctx, cl.ID, s.cfg.Clock.Now(), func(cl *trove.Cluster) error { cl.Task = trove.ClusterNone; return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("reset the cluster's task: %w", err)
	}
	return nil, nil
}
