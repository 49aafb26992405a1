package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// cluster writes an idle cluster with members, as an import does.
func (w *world) cluster(t testing.TB, members int) (cl trove.Cluster, ids []string) {
	t.Helper()
	now := w.clock.Now()
	cl = trove.Cluster{
		ID: trove.NewID(), ProjectID: project, Name: "c", Task: trove.ClusterNone, DatastoreVersionID: versionID("mariadb", "10.4.18"), Created: now, Updated: now,
	}
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error { return tx.InsertCluster(ctx, cl) })
	for range members {
		id := trove.NewID()
		w.clusterMember(t, cl.ID, id)
		ids = append(ids, id)
	}
	return cl, ids
}

func (w *world) clusterMember(t testing.TB, cluster, id string) {
	t.Helper()
	now := w.clock.Now()
	i := trove.Instance{
		ID: id, ProjectID: project, Name: "member", Created: now, Updated: now, DatastoreVersionID: versionID("mariadb", "10.4.18"),
		FlavorID: "2", VolumeSize: 1, Region: "RegionOne", ClusterID: cluster, MemberType: "member", ShardID: "s1",
	}
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
	w.activate(t, i.ID)
	w.report(t, i.ID, trove.ServiceHealthy, now)
}

const clusterNode = `{"flavorRef":"2","volume":{"size":1},"nics":[{"net-id":"` + networkID + `"}]}`

// TestAClusterIsRefusedAfterEverythingElse: what is wrong with a request is said first, and a refusal leaves nothing.
func TestAClusterIsRefusedAfterEverythingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	three := func(last string) string { return clusterNode + "," + clusterNode + "," + last }
	for name, c := range map[string]struct {
		datastore, nodes, extra string
		status                  int
		message                 string
	}{
		"datastore":  {"mysql", three(clusterNode), "", 501, "Clusters not supported for mysql-5.7.29."},
		"two":        {"mariadb", clusterNode + "," + clusterNode, "", 400, "The number of instances for your initial cluster must be at least 3."},
		"locality":   {"mariadb", three(clusterNode), `,"locality":"near"`, 400, "Invalid locality 'near'. Must be one of ['affinity', 'anti-affinity']"},
		"flavor":     {"mariadb", three(`{"flavorRef":"99","volume":{"size":1}}`), "", 400, "Resource 99 cannot be found."},
		"flavors":    {"mariadb", three(`{"flavorRef":"3","volume":{"size":1},"nics":[{"net-id":"` + networkID + `"}]}`), "", 400, "The flavor for each instance in a cluster must be equal."},
		"sizes":      {"mariadb", three(`{"flavorRef":"2","volume":{"size":2},"nics":[{"net-id":"` + networkID + `"}]}`), "", 400, "The volume size for each instance in a cluster must be equal."},
		"no volume":  {"mariadb", three(`{"flavorRef":"2"}`), "", 400, "A volume size is required for each instance in the cluster."},
		"networks":   {"mariadb", three(`{"flavorRef":"2","volume":{"size":1}}`), "", 400, "The network for each instance in a cluster must be equal."},
		"module":     {"mariadb", three(`{"flavorRef":"2","volume":{"size":1},"nics":[{"net-id":"` + networkID + `"}],"modules":[{"id":"` + absentID + `"}]}`), "", 404, "Module with ID " + absentID + " could not be found."},
		"over quota": {"mariadb", three(clusterNode) + strings.Repeat(","+clusterNode, 8), "", 413, "Quota exceeded for resources: ['instances']."},
		"good":       {"mariadb", three(clusterNode), `,"locality":"affinity"`, 501, "Clusters cannot be made or changed yet: this release lists and shows those that are there."},
	} {
		t.Run(name, func(t *testing.T) {
			version := map[string]string{"mysql": "5.7.29", "mariadb": "10.4.18"}[c.datastore]
			body := `{"cluster":{"name":"c","datastore":{"type":"` + c.datastore + `","version":"` + version + `"},"instances":[` + c.nodes + `]` + c.extra + `}}`
			if got := w.refused(t, c.status, "member", http.MethodPost, "/clusters", body); got != c.message {
				t.Error(got)
			}
		})
	}
	found, err := w.store.Clusters(t.Context(), store.ClusterFilter{})
	if err != nil || len(found)+len(w.inUse(t)) > 0 {
		t.Errorf("left: %v %v %v", found, w.inUse(t), err)
	}
}

func TestActionsOnAClusterAreRefusedAfterEverythingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	cl, members := w.cluster(t, 3)
	path := "/clusters/" + cl.ID
	all := `{"shrink":[{"id":"` + strings.Join(members, `"},{"id":"`) + `"}]}`
	const not = "Clusters cannot be made or changed yet: this release lists and shows those that are there."
	for body, want := range map[string]struct {
		status  int
		message string
	}{
		`{}`:                         {400, "Action request should have exactly one action specified in body"},
		`{"restart":{},"shrink":[]}`: {400, "Action request should have exactly one action specified in body"},
		`{"dance":{}}`:               {400, "Action dance not supported"},
		`{"add_shard":{}}`:           {400, "Action add_shard not supported"},
		`{"grow":[{"name":"x"}]}`:    {400, "Validation error: grow[0] 'flavorRef' is a required property"},
		`{"grow":[{"flavorRef":"99","volume":{"size":1}}]}`: {400, "Resource 99 cannot be found."},
		`{"grow":[` + clusterNode + `]}`:                    {501, not},
		all:                                                 {400, "Must leave at least one instance in the cluster when shrinking."},
		`{"shrink":[{"id":"` + absentID + `"}]}`:            {404, "Resource " + absentID + " cannot be found."},
		`{"shrink":[{"id":"` + members[0] + `"}]}`:          {501, not},
		`{"upgrade":{"datastore_version":"nope"}}`:          {400, "Datastore version 'nope' cannot be found."},
		`{"upgrade":{"datastore_version":"10.11.6"}}`:       {501, not},
		`{"restart":{}}`:                                    {501, not},
		`{"configuration_detach":{}}`:                       {501, not},
		`{"configuration_attach":{"configuration_id":"x"}}`: {400, "Validation error: configuration_attach['configuration_id'] 'x' does not match '^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$'"},
	} {
		if got := w.refused(t, want.status, "member", http.MethodPost, path, body); got != want.message {
			t.Errorf("%s: %q", body, got)
		}
	}
	if got := w.refused(t, 501, "member", http.MethodDelete, path, ""); got != not {
		t.Error(got)
	}
	w.refused(t, 403, "member", http.MethodPost, path, `{"reset-status":{}}`)
}

// TestABusyCluster takes no action until it is reset, with its members.
func TestABusyCluster(t *testing.T) {
	w := newWorld(t, nil, nil)
	cl, members := w.cluster(t, 2)
	path := "/clusters/" + cl.ID
	busy := func() {
		inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
			return tx.UpdateCluster(ctx, cl.ID, w.clock.Now(), func(c *trove.Cluster) error { c.Task = trove.ClusterGrowing; return nil })
		})
	}
	busy()
	w.change(t, members[0], func(i *trove.Instance) { i.Task = trove.TaskResizing })
	const sentence = "This action cannot be performed on the cluster while the current cluster task is 'GROWING_CLUSTER'."
	for _, body := range []string{`{"restart":{}}`, `{"grow":[` + clusterNode + `]}`, `{"shrink":[]}`} {
		if got := w.refused(t, 422, "member", http.MethodPost, path, body); got != sentence {
			t.Error(got)
		}
	}
	if got := w.refused(t, 422, "member", http.MethodDelete, path, ""); got != sentence {
		t.Error(got)
	}
	var out wire.ClusterBody
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path, `{"reset-status":{"force_delete":1}}`, &out)
	i, err := w.store.Instance(t.Context(), members[0])
	if err != nil || out.Cluster.Task.Name != "NONE" || i.Task != trove.TaskNone || i.Guest.Service != trove.ServiceUnknown {
		t.Errorf("%+v, task %v, %v", out.Cluster.Task, i.Task, err)
	}
	busy()
	for _, c := range []struct {
		token, body string
		status      int
	}{{"member", `{"reset-task":{}}`, 401}, {"admin", `{}`, 400}, {"admin", `{"dance":{}}`, 400}, {"admin", `{"reset-task":{}}`, 202}} {
		if rec := w.ask(t, c.token, http.MethodPost, "/mgmt/clusters/"+cl.ID+"/action", c.body); rec.Code != c.status {
			t.Errorf("%s %s: %d %s", c.token, c.body, rec.Code, rec.Body)
		}
	}
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &out)
	if out.Cluster.Task.ID != 1 {
		t.Errorf("%+v", out.Cluster.Task)
	}
}

// TestMembersOfClusters are not in the list of instances unless asked for, and are not deleted, restarted or backed up alone.
func TestMembersOfClusters(t *testing.T) {
	w := newWorld(t, nil, nil)
	single := w.built(t)
	cl, members := w.cluster(t, 3)
	for query, want := range map[string]int{"": 1, "?include_clustered=False": 1, "?include_clustered=true": 4} {
		for _, path := range []string{"/instances", "/instances/detail"} {
			var list wire.InstanceList
			w.must(t, http.StatusOK, "member", http.MethodGet, path+query, "", &list)
			if len(list.Instances) != want {
				t.Errorf("%s%s: %d instances", path, query, len(list.Instances))
			}
		}
	}
	const sentence = "Operation not supported for instances that are part of a cluster."
	for _, c := range [][3]string{
		{http.MethodDelete, "/instances/" + members[0], ""},
		{http.MethodPost, "/instances/" + members[0] + "/action", `{"restart":{}}`},
		{http.MethodPost, "/backups", `{"backup":{"name":"b","instance":"` + members[0] + `"}}`},
	} {
		if got := w.refused(t, 501, "member", c[0], c[1], c[2]); got != sentence {
			t.Errorf("%v: %q", c, got)
		}
	}
	var one wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/clusters/"+cl.ID+"/instances/"+members[1], "", &one)
	if one.Instance.ID != members[1] || one.Instance.ClusterID != cl.ID || one.Instance.ShardID != "s1" {
		t.Errorf("%+v", one.Instance)
	}
	if got := w.refused(t, 404, "member", http.MethodGet, "/clusters/"+cl.ID+"/instances/"+single, ""); got != "Resource "+single+" cannot be found." {
		t.Error(got)
	}
}

// TestRootOfAClusterIsRefused with 400, and the cluster is found in the own project alone.
func TestRootOfAClusterIsRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	cl, _ := w.cluster(t, 1)
	for method, op := range map[string]string{http.MethodGet: "show_root", http.MethodPost: "enable_root", http.MethodDelete: "disable_root"} {
		if got := w.refused(t, 400, "member", method, "/clusters/"+cl.ID+"/root", ""); got != "The '"+op+"' operation is not supported for cluster." {
			t.Error(got)
		}
		if got := w.refused(t, 404, "admin_other", method, "/clusters/"+cl.ID+"/root", ""); got != "DBCluster Not Found" {
			t.Error(got)
		}
	}
}

// Trap 11: what is under mgmt is 401 for others than administrators.
func TestTrap11ClustersUnderMgmtAre401(t *testing.T) {
	w := newWorld(t, nil, nil)
	cl, _ := w.cluster(t, 1)
	for _, path := range []string{"/mgmt/clusters", "/mgmt/clusters/" + cl.ID} {
		if got := w.refused(t, 401, "member", http.MethodGet, path, ""); got != "User does not have admin privileges." {
			t.Error(got)
		}
	}
}

// TestDeletedClusters are seen by administrators alone; an empty cluster can be deleted.
func TestDeletedClusters(t *testing.T) {
	w := newWorld(t, nil, nil)
	living, _ := w.cluster(t, 1)
	gone, _ := w.cluster(t, 0)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/clusters/"+gone.ID, "", nil)
	w.refused(t, 404, "member", http.MethodGet, "/clusters/"+gone.ID, "")
	var list wire.ClusterList
	w.must(t, http.StatusOK, "member", http.MethodGet, "/clusters", "", &list)
	if len(list.Clusters) != 1 || list.Clusters[0].ID != living.ID || list.Clusters[0].TenantID != "" {
		t.Errorf("%+v", list)
	}
	for query, want := range map[string]int{"": 2, "?deleted=true": 1, "?deleted=false": 1} {
		w.must(t, http.StatusOK, "admin_other", http.MethodGet, "/mgmt/clusters"+query, "", &list)
		if len(list.Clusters) != want || list.Clusters[0].TenantID != project || list.Clusters[0].Deleted == nil {
			t.Errorf("%q: %+v", query, list)
		}
	}
	var one wire.ClusterBody
	w.must(t, http.StatusOK, "admin_other", http.MethodGet, "/mgmt/clusters/"+gone.ID, "", &one)
	if one.Cluster.Deleted == nil || !*one.Cluster.Deleted {
		t.Errorf("%+v", one.Cluster)
	}
	w.refused(t, 404, "admin_other", http.MethodPost, "/mgmt/clusters/"+gone.ID+"/action", `{"reset-task":{}}`)
}
