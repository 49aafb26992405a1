package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func testManaged(t *testing.T, s store.Store) {
	var all []trove.Instance
	for n := range 5 {
		i := Instance([]string{"p", "q"}[n%2])
		i.ClusterID = ""
		if n == 4 {
			i.ClusterID = "c"
		}
		i.Updated = Start.Add(time.Duration(n/2) * time.Second) // pairs of the same time
		all = append(all, i)
	}
	insert(t, s, all...)
	gone := all[1]
	deletedAt := Start.Add(time.Hour)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, gone.ID, deletedAt) })

	ids := func(f store.ManagedFilter) []string {
		t.Helper()
		found, err := s.ManagedInstances(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		list := []string{}
		for _, i := range found {
			list = append(list, i.ID)
		}
		return list
	}
	pair := func(a, b trove.Instance) []string {
		return []string{max(a.ID, b.ID), min(a.ID, b.ID)}
	}
	yes, no := true, false
	whole := append([]string{gone.ID, all[4].ID}, append(pair(all[2], all[3]), all[0].ID)...)
	same(t, ids(store.ManagedFilter{}), whole)
	same(t, ids(store.ManagedFilter{Deleted: &yes}), []string{gone.ID})
	same(t, ids(store.ManagedFilter{Deleted: &no}), whole[1:])
	same(t, ids(store.ManagedFilter{ProjectID: "q"}), []string{gone.ID, all[3].ID})
	same(t, ids(store.ManagedFilter{ProjectID: "q", Deleted: &no}), []string{all[3].ID})
	same(t, ids(store.ManagedFilter{Limit: 2}), whole[:2])
	same(t, ids(store.ManagedFilter{Limit: 2, Offset: 3}), whole[3:])
	same(t, ids(store.ManagedFilter{Offset: 4}), whole[4:])
	same(t, ids(store.ManagedFilter{Offset: 9}), []string{})
	same(t, ids(store.ManagedFilter{ProjectID: "nobody"}), []string{})
	none, one := "", "c"
	same(t, ids(store.ManagedFilter{Cluster: &none}), slices.DeleteFunc(slices.Clone(whole), func(id string) bool { return id == all[4].ID }))
	same(t, ids(store.ManagedFilter{Cluster: &one}), []string{all[4].ID})

	found, err := s.DeletedInstance(t.Context(), gone.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := gone
	want.DeletedAt, want.Updated, want.Version, want.ServerID = deletedAt, deletedAt, found.Version, found.ServerID
	same(t, found, want)
	_, err = s.DeletedInstance(t.Context(), all[0].ID) // it lives
	wantMissing(t, err, all[0].ID)
}
