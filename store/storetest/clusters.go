package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Cluster returns a cluster with every column set.
func Cluster(project string) trove.Cluster {
	return trove.Cluster{
		ID: trove.NewID(), ProjectID: project, Name: "c – ü", Task: trove.ClusterBuilding, DatastoreVersionID: "v", ConfigurationID: "g", Created: Start,
		Updated: Start,
	}
}

func testCluster(t *testing.T, s store.Store) {
	want := Cluster("p")
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.InsertCluster(ctx, want) })
	read := func() trove.Cluster {
		t.Helper()
		c, err := s.Cluster(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	same(t, read(), want)
	now := Start.Add(time.Hour)
	change := func(c *trove.Cluster) {
		c.Name, c.Task, c.DatastoreVersionID, c.ConfigurationID = "d", trove.ClusterNone, "w", ""
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateCluster(ctx, want.ID, now, func(c *trove.Cluster) error {
			change(c)
			c.ID, c.ProjectID = "x", "x" // not written
			return nil
		})
	})
	change(&want)
	want.Updated = now
	same(t, read(), want)
	for range 2 { // gone is fine, and nothing is deleted twice
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteCluster(ctx, want.ID, now) })
		now = now.Add(time.Hour)
	}
	want.DeletedAt = want.Updated
	same(t, read(), want)
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateCluster(ctx, want.ID, now, func(*trove.Cluster) error { return nil })
	})
	wantKind(t, err, trove.KindNotFound)
	_, err = s.Cluster(t.Context(), "nope")
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Cluster 'nope' cannot be found.")
}

func testClusterList(t *testing.T, s store.Store) {
	all := []trove.Cluster{Cluster("p"), Cluster("p"), Cluster("q"), Cluster("p")}
	byID := func(a, b trove.Cluster) int { return strings.Compare(a.ID, b.ID) }
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for _, c := range all {
			if err := tx.InsertCluster(ctx, c); err != nil {
				return err
			}
		}
		return tx.DeleteCluster(ctx, all[3].ID, Start)
	})
	all[3].DeletedAt = Start
	yes, no := true, false
	mine := []trove.Cluster{all[0], all[1]}
	slices.SortFunc(mine, byID)
	for name, c := range map[string]struct {
		f    store.ClusterFilter
		want []trove.Cluster
	}{
		"living ones of a project": {store.ClusterFilter{ProjectID: "p", Deleted: &no}, mine},
		"page":                     {store.ClusterFilter{ProjectID: "p", Deleted: &no, Limit: 1}, mine[:1]},
		"after the marker":         {store.ClusterFilter{ProjectID: "p", Deleted: &no, Marker: mine[0].ID}, mine[1:]},
		"deleted":                  {store.ClusterFilter{Deleted: &yes}, []trove.Cluster{all[3]}},
		"all":                      {store.ClusterFilter{}, slices.Clone(all)},
	} {
		got, err := s.Clusters(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.SortFunc(c.want, byID)
		t.Run(name, func(t *testing.T) { same(t, got, c.want) })
	}
}

func testMembers(t *testing.T, s store.Store) {
	c := Cluster("p")
	single, member := Instance("p"), Instance("p")
	single.ClusterID, single.ShardID, single.MemberType = "", "", ""
	member.ClusterID, member.ShardID, member.MemberType = c.ID, "shard-1", "member"
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertCluster(ctx, c), tx.InsertInstance(ctx, single), tx.InsertInstance(ctx, member))
	})
	ids := func(f store.InstanceFilter) []string {
		t.Helper()
		found, err := s.Instances(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range found {
			out = append(out, i.ID)
		}
		return out
	}
	none := ""
	same(t, ids(store.InstanceFilter{ProjectID: "p", Cluster: &none}), []string{single.ID})
	same(t, ids(store.InstanceFilter{Cluster: &c.ID}), []string{member.ID})
	same(t, len(ids(store.InstanceFilter{ProjectID: "p"})), 2)
	got := get(t, s, member.ID)
	same(t, []string{got.ClusterID, got.ShardID, got.MemberType}, []string{c.ID, "shard-1", "member"})
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, member.ID, Start, func(i *trove.Instance) error { i.ClusterID, i.ShardID, i.MemberType = "", "", ""; return nil })
	})
	same(t, ids(store.InstanceFilter{Cluster: &c.ID}), nil)
}
