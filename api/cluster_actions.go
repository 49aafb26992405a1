package api

import (
	"context"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// noClusters is what is said of making and changing clusters.
const noClusters = "Clusters cannot be made or changed yet: this release lists and shows those that are there."

// minMembers is how many instances a cluster begins with at least: Trove's default for every datastore.
const minMembers = 3

// clusterAction checks an action on a cluster, as far as Trove would before it begins, and does what can be done.
type clusterAction func(s *server, ctx context.Context, c *call, cl *trove.Cluster) error

// clusterActions are the bodies of POST /clusters/{cluster}.
var clusterActions = map[string]clusterAction{
	"grow":                 (*server).growCluster,
	"shrink":               (*server).shrinkCluster,
	"upgrade":              (*server).upgradeCluster,
	"restart":              (*server).changeCluster,
	"configuration_attach": (*server).changeCluster,
	"configuration_detach": (*server).changeCluster,
	"reset-status":         (*server).resetCluster,
}

func (s *server) actOnCluster(ctx context.Context, c *call) (any, error) {
	if len(c.body) != 1 {
		return nil, bad("Action request should have exactly one action specified in body")
	}
	rule := "cluster:action"
	if c.body.has("reset-status") {
		rule = "cluster:reset-status"
		if c.body.obj("reset-status").has("force_delete") {
			rule = "cluster:force_delete"
		}
	}
	cl, err := s.findCluster(ctx, c, rule)
	if err != nil {
		return nil, err
	}
	for name := range c.body {
		act, ok := clusterActions[name]
		if !ok {
			return nil, bad("Action %s not supported", name)
		}
		if err := act(s, ctx, c, &cl); err != nil {
			return nil, err
		}
	}
	if cl, err = s.cfg.Store.Cluster(ctx, cl.ID); err != nil {
		return nil, fmt.Errorf("read the cluster: %w", err)
	}
	v, err := s.viewCluster(ctx, c, &cl, false)
	if err != nil {
		return nil, err
	}
	return &wire.ClusterBody{Cluster: v}, nil
}

// resetCluster takes a cluster and its members out of tasks that hang.
func (s *server) resetCluster(ctx context.Context, _ *call, cl *trove.Cluster) error {
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := s.cfg.Clock.Now()
		err := tx.UpdateCluster(ctx, cl.ID, now, func(cl *trove.Cluster) error { cl.Task = trove.ClusterNone; return nil })
		if err != nil {
			return err
		}
		all, err := tx.Instances(ctx, members(cl))
		if err != nil {
			return err
		}
		for _, i := range all {
			if err := resetInstance(ctx, tx, i.ID, now, true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reset the status of the cluster: %w", err)
	}
	if s.cfg.Wake != nil {
		s.cfg.Wake(ctx)
	}
	return nil
}

// changeCluster is an action that asks for nothing but an idle cluster.
func (*server) changeCluster(_ context.Context, _ *call, cl *trove.Cluster) error {
	if err := cl.CheckIdle(); err != nil {
		return err
	}
	return notYet(noClusters)
}

func (s *server) growCluster(ctx context.Context, c *call, cl *trove.Cluster) error {
	if err := cl.CheckIdle(); err != nil {
		return err
	}
	version, _, err := s.datastoreVersion(ctx, cl.DatastoreVersionID)
	if err != nil {
		return err
	}
	if err := s.checkNodes(ctx, c, c.body.list("grow"), &version); err != nil {
		return err
	}
	return notYet(noClusters)
}

func (s *server) shrinkCluster(ctx context.Context, c *call, cl *trove.Cluster) error {
	if err := cl.CheckIdle(); err != nil {
		return err
	}
	all, err := s.membersOf(ctx, cl)
	if err != nil {
		return err
	}
	leaving := map[string]bool{}
	for _, w := range c.body.list("shrink") {
		id := w.str("id")
		if !slices.ContainsFunc(all, func(i trove.Instance) bool { return i.ID == id }) {
			return trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
		}
		leaving[id] = true
	}
	if len(leaving) >= len(all) {
		return bad("Must leave at least one instance in the cluster when shrinking.")
	}
	return notYet(noClusters)
}

func (s *server) upgradeCluster(ctx context.Context, c *call, cl *trove.Cluster) error {
	now, _, err := s.datastoreVersion(ctx, cl.DatastoreVersionID)
	if err != nil {
		return err
	}
	ds, err := s.findDatastore(ctx, now.DatastoreID)
	if err != nil {
		return err
	}
	if _, err := s.findVersion(ctx, ds, c.body.obj("upgrade").str("datastore_version"), ""); err != nil {
		return err
	}
	return s.changeCluster(ctx, c, cl)
}

// createCluster checks what Trove checks, in its order, and says that no cluster is made.
func (s *server) createCluster(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("cluster")
	version, err := s.chooseVersion(ctx, body.obj("datastore"))
	if err != nil {
		return nil, err
	}
	if !version.Capabilities.Clusters {
		return nil, trove.Errorf(trove.KindNotImplemented, "Clusters not supported for %s-%s.", version.DatastoreName, version.Name)
	}
	if l := body.str("locality"); l != "" && l != "affinity" && l != "anti-affinity" {
		return nil, bad("Invalid locality '%s'. Must be one of ['affinity', 'anti-affinity']", l)
	}
	nodes := body.list("instances")
	if len(nodes) < minMembers {
		return nil, bad("The number of instances for your initial cluster must be at least %d.", minMembers)
	}
	if err := s.checkNodes(ctx, c, nodes, &version); err != nil {
		return nil, err
	}
	return nil, notYet(noClusters)
}

// checkNodes checks wanted members: flavors, volumes and networks exist and are equal, and the quota has room for them. Their number comes first, so
// that a body of a million members asks the catalogue nothing.
func (s *server) checkNodes(ctx context.Context, c *call, nodes []object, version *trove.DatastoreVersion) error {
	if err := s.checkQuota(ctx, c.project, map[string]int{trove.QuotaInstances: len(nodes)}); err != nil {
		return err
	}
	var first trove.Instance
	total := map[string]int{}
	for n, node := range nodes {
		flavor, err := s.chooseFlavor(ctx, c, node.ref("flavorRef"), true, version)
		if err != nil {
			return err
		}
		i := trove.Instance{FlavorID: flavor.ID}
		if version.Capabilities.Volume && !node.has("volume") {
			return bad("A volume size is required for each instance in the cluster.")
		}
		if i.VolumeSize, i.VolumeType, err = s.chooseVolume(ctx, c, node, version); err != nil {
			return err
		}
		if i.NICs, err = s.chooseNICs(ctx, c, node.list("nics")); err != nil {
			return err
		}
		if n == 0 {
			first = i
		}
		if err := sameNode(&first, &i); err != nil {
			return err
		}
		if modules := node.list("modules"); len(modules) > 0 {
			if _, err := s.applicable(ctx, c, modules, version); err != nil {
				return err
			}
		}
		total[trove.QuotaInstances]++
		total[trove.QuotaRAM] += flavor.RAM
		total[trove.QuotaVolumes] += i.VolumeSize
	}
	return s.checkQuota(ctx, c.project, total)
}

// sameNode refuses members that differ in what all members of a cluster share.
func sameNode(a, b *trove.Instance) error {
	switch {
	case a.FlavorID != b.FlavorID:
		return bad("The flavor for each instance in a cluster must be equal.")
	case a.VolumeSize != b.VolumeSize:
		return bad("The volume size for each instance in a cluster must be equal.")
	case !slices.EqualFunc(a.NICs, b.NICs, func(x, y trove.NIC) bool { return x.NetworkID == y.NetworkID }):
		return bad("The network for each instance in a cluster must be equal.")
	}
	return nil
}
