package specs_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

const (
	primary = "11111111-1111-4111-8111-111111111111"
	first   = "22222222-2222-4222-8222-222222222222"
	second  = "33333333-3333-4333-8333-333333333333"
	version = "44444444-4444-4444-8444-444444444444"
	cluster = "55555555-5555-4555-8555-555555555555"
)

func open(t *testing.T, all ...trove.Instance) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		err := errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "66666666-6666-4666-8666-666666666666", Name: "mariadb"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: version, DatastoreID: "66666666-6666-4666-8666-666666666666", Name: "10.11", Manager: "fake", ImageID: "image-1", Active: true,
			}))
		for _, i := range all {
			i.ProjectID, i.Name, i.DatastoreVersionID, i.FlavorID = "p1", "db", version, "1"
			i.Created, i.Updated, i.Task = time.Now(), time.Now(), trove.TaskNone
			err = errors.Join(err, tx.InsertInstance(ctx, i))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMachinesArePlacedByTheLocalityOfTheirSet(t *testing.T) {
	for name, c := range map[string]struct {
		all  []trove.Instance
		of   string
		want cloud.Group
	}{
		"no locality": {[]trove.Instance{{ID: primary}, {ID: first, ReplicaOf: primary}}, first, cloud.Group{}},
		"an instance": {[]trove.Instance{{ID: primary, Locality: "affinity"}}, primary, cloud.Group{ID: primary, Policy: cloud.Affinity}},
		"a primary": {
			[]trove.Instance{{ID: primary, Locality: "affinity"}, {ID: first, ReplicaOf: primary}, {ID: second, ReplicaOf: primary}},
			primary,
			cloud.Group{ID: primary, Policy: cloud.Affinity, Peers: []string{first, second}},
		},
		"a replica": {
			[]trove.Instance{{ID: primary, Locality: "anti-affinity"}, {ID: first, ReplicaOf: primary, Locality: "anti-affinity"}, {ID: second, ReplicaOf: primary}},
			first,
			cloud.Group{ID: primary, Policy: cloud.AntiAffinity, Peers: []string{primary, second}},
		},
		"a replica inherits it": {
			[]trove.Instance{{ID: primary, Locality: "anti-affinity"}, {ID: first, ReplicaOf: primary}},
			first,
			cloud.Group{ID: primary, Policy: cloud.AntiAffinity, Peers: []string{primary}},
		},
		"one that follows a promoted replica": {
			[]trove.Instance{{ID: primary, Locality: "affinity", ReplicaOf: first}, {ID: first, Locality: "affinity"}, {ID: second, ReplicaOf: first}},
			second,
			cloud.Group{ID: first, Policy: cloud.Affinity, Peers: []string{first, primary}},
		},
		"one that was detached": {
			[]trove.Instance{{ID: primary, Locality: "affinity"}, {ID: first, Locality: "affinity"}}, first, cloud.Group{ID: first, Policy: cloud.Affinity},
		},
		"a replica whose primary is gone": {
			[]trove.Instance{{ID: first, Locality: "affinity", ReplicaOf: primary}, {ID: second, ReplicaOf: primary}},
			first,
			cloud.Group{ID: primary, Policy: cloud.Affinity, Peers: []string{primary, second}},
		},
		"a member of a cluster": {
			[]trove.Instance{
				{ID: primary, ClusterID: cluster, Locality: "anti-affinity"}, {ID: first, ClusterID: cluster, Locality: "anti-affinity"}, {ID: second, Locality: "anti-affinity"},
			}, first, cloud.Group{ID: cluster, Policy: cloud.AntiAffinity, Peers: []string{primary}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := specs.Load(t.Context(), open(t, c.all...), c.of)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, w.Machine(trove.Flavor{}, nil).Group, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
