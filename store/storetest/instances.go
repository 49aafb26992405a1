package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

var errNo = errors.New("no")

func testTransactions(t *testing.T, s store.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Fatalf("ping: %v", err)
	}
	i := Instance("p")
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertInstance(ctx, i); err != nil {
			return err
		}
		if _, err := tx.Instance(ctx, i.ID); err != nil {
			t.Errorf("a transaction does not see its own write: %v", err)
		}
		if _, err := s.Instance(ctx, i.ID); !trove.IsNotFound(err) {
			t.Errorf("a reader outside sees what is not committed: %v", err)
		}
		return errNo
	})
	if !errors.Is(err, errNo) {
		t.Errorf("got %v, want the function's own error", err)
	}
	_, err = s.Instance(t.Context(), i.ID)
	wantMissing(t, err, i.ID)

	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := tx.InsertInstance(ctx, i); err != nil {
				return err
			}
			panic("step on a rake")
		})
	}()
	_, err = s.Instance(t.Context(), i.ID)
	wantMissing(t, err, i.ID)

	ctx, cancel := context.WithCancel(t.Context())
	err = s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertInstance(ctx, i); err != nil {
			return err
		}
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	_, err = s.Instance(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	insert(t, s, i) // and the connection is usable
}

func testConflicts(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	const writers, times = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range times {
				err := insist(t, s, func(ctx context.Context, tx store.Tx) error {
					return tx.UpdateInstance(ctx, i.ID, Start, func(i *trove.Instance) error {
						i.VolumeSize++
						return nil
					})
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got := get(t, s, i.ID)
	same(t, got.VolumeSize, i.VolumeSize+writers*times)
	same(t, got.Version, i.Version+writers*times)
}

func testInstance(t *testing.T, s store.Store) {
	want := Instance("p")
	got := insert(t, s, want)
	if got.ServerID == 0 {
		t.Error("the server id is 0")
	}
	want.Guest.Service = trove.ServiceNew
	want.ServerID, want.Version = got.ServerID, got.Version
	same(t, got, want)

	bare := trove.Instance{ID: trove.NewID(), ProjectID: "p", Name: "n", Created: Start, Updated: Start, Task: trove.TaskNone}
	got = insert(t, s, bare)
	bare.Guest.Service, bare.ServerID, bare.Version = trove.ServiceNew, got.ServerID, got.Version
	same(t, got, bare)

	_, err := s.Instance(t.Context(), "nope")
	wantMissing(t, err, "nope")

	given := trove.Instance{ID: trove.NewID(), ProjectID: "p", Name: "n", Created: Start, ServerID: 4242}
	same(t, insert(t, s, given).ServerID, 4242)
	given.ID = trove.NewID()
	if err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, given) }); err == nil {
		t.Error("two instances have the same server id")
	}
}

func testUpdateInstance(t *testing.T, s store.Store) {
	before := insert(t, s, Instance("p"))
	now := Start.Add(time.Hour)
	change := func(i *trove.Instance) {
		i.Name, i.Task, i.ServerStatus, i.DatastoreVersionID, i.FlavorID = "other", trove.TaskNone, trove.ServerActive, "v", "3"
		i.VolumeSize, i.VolumeType, i.Region, i.AvailabilityZone, i.Locality, i.Hostname = 6, "slow", "r", "z", "anti-affinity", "h"
		i.ConfigurationID, i.ReplicaOf, i.Access, i.NICs, i.Addresses, i.Fault = "", "", trove.Access{}, nil, nil, nil
		i.ComputeID, i.VolumeID, i.ServerID, i.Held = "c-2", "v-2", 77, nil
		i.ClusterID, i.ShardID, i.MemberType = "", "", ""
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, before.ID, now, func(i *trove.Instance) error {
			same(t, *i, before)
			change(i)
			i.ID, i.ProjectID, i.Guest.BootID = "x", "x", "x" // not written
			return nil
		})
	})
	want := before
	change(&want)
	want.Updated, want.Version = now, before.Version+1
	same(t, get(t, s, before.ID), want)

	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, before.ID, now, func(i *trove.Instance) error {
			i.Name = "third"
			return errNo
		})
	})
	if !errors.Is(err, errNo) {
		t.Errorf("got %v, want the error of the change", err)
	}
	same(t, get(t, s, before.ID), want)

	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, "nope", now, func(*trove.Instance) error { return nil })
	})
	wantMissing(t, err, "nope")
}

func testDeleteInstance(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	now := Start.Add(time.Hour)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutEnrolmentToken(ctx, i.ID, "hash", now.Add(time.Hour)),
			tx.PutReport(ctx, store.Report{OperationID: "op/step", InstanceID: i.ID, At: now}))
	})
	for range 2 { // gone is fine
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, now) })
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, "nope", now) })
	_, err := s.Instance(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	_, err = s.Guest(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	_, err = s.Report(t.Context(), "op/step")
	wantKind(t, err, trove.KindNotFound)
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.UseEnrolmentToken(ctx, "hash", "key", now)
		return err
	})
	wantKind(t, err, trove.KindUnauthorized)
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, i.ID, now, func(*trove.Instance) error { return nil })
	})
	wantMissing(t, err, i.ID)

	deleted := true
	found, err := s.Instances(t.Context(), store.InstanceFilter{Deleted: &deleted})
	if err != nil || len(found) != 1 {
		t.Fatalf("got %d deleted instances, %v", len(found), err)
	}
	same(t, found[0].DeletedAt, now)
	same(t, found[0].ID, i.ID)
}

func testPages(t *testing.T, s store.Store) {
	var mine, all []trove.Instance
	for n := range 25 {
		i := Instance("mine")
		if n%5 == 4 {
			i.ProjectID = "other"
		} else {
			mine = append(mine, i)
		}
		all = append(all, i)
	}
	insert(t, s, all...)
	walk := func(f store.InstanceFilter) []string {
		var ids []string
		for {
			page, err := s.Instances(t.Context(), f)
			if err != nil {
				t.Fatalf("list: %v", err)
			}
			if len(page) > f.Limit {
				t.Fatalf("the page has %d instances, want %d at most", len(page), f.Limit)
			}
			for _, i := range page {
				ids = append(ids, i.ID)
			}
			if len(page) < f.Limit {
				return ids
			}
			f.Marker = page[len(page)-1].ID
		}
	}
	same(t, walk(store.InstanceFilter{ProjectID: "mine", Limit: 7}), sortedIDs(mine))
	same(t, walk(store.InstanceFilter{Limit: 7}), sortedIDs(all))
	same(t, walk(store.InstanceFilter{ProjectID: "nobody", Limit: 7}), nil)
	found, err := s.Instances(t.Context(), store.InstanceFilter{ProjectID: "mine"})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	same(t, len(found), len(mine))
	same(t, found[0], get(t, s, found[0].ID)) // the same columns as one alone
}

func sortedIDs(is []trove.Instance) []string {
	var ids []string
	for _, i := range is {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	return ids
}

func testFilters(t *testing.T, s store.Store) {
	a, b, gone := Instance("p"), Instance("p"), Instance("p")
	a.Name, gone.Name = "a", "a"
	insert(t, s, a, b, gone)
	now := Start.Add(time.Minute)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.DeleteInstance(ctx, gone.ID, now),
			tx.RecordReports(ctx, []store.GuestReport{{InstanceID: b.ID, SeenAt: now, BootID: "1", Service: trove.ServiceHealthy}}))
	})
	yes, no := true, false
	for _, c := range []struct {
		name string
		f    store.InstanceFilter
		want []trove.Instance
	}{
		{"living by default", store.InstanceFilter{ProjectID: "p"}, []trove.Instance{a, b}},
		{"living", store.InstanceFilter{Deleted: &no}, []trove.Instance{a, b}},
		{"deleted", store.InstanceFilter{Deleted: &yes}, []trove.Instance{gone}},
		{"name", store.InstanceFilter{Name: "a"}, []trove.Instance{a}},
		{"silent", store.InstanceFilter{SilentSince: now}, []trove.Instance{a}},
		{"silent a moment later", store.InstanceFilter{SilentSince: now.Add(time.Microsecond)}, []trove.Instance{a, b}},
		{"all together", store.InstanceFilter{ProjectID: "p", Name: "a", SilentSince: now, Deleted: &no, Limit: 5}, []trove.Instance{a}},
	} {
		found, err := s.Instances(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Run(c.name, func(t *testing.T) { same(t, sortedIDs(found), sortedIDs(c.want)) })
	}
}

func testReplicas(t *testing.T, s store.Store) {
	primary, lonely := Instance("p"), Instance("p")
	primary.ReplicaOf, lonely.ReplicaOf = "", ""
	want := map[string][]string{}
	is := []trove.Instance{primary, lonely}
	var ids []string
	for range 3 {
		r := Instance("p")
		r.ReplicaOf = primary.ID
		is = append(is, r)
		ids = append(ids, r.ID)
	}
	insert(t, s, is...)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, ids[0], Start) })
	ids = ids[1:]
	slices.Sort(ids)
	want[primary.ID] = ids
	ask := []string{lonely.ID}
	for range 700 { // more than fit into one statement
		ask = append(ask, trove.NewID())
	}
	ask = append(ask, primary.ID)
	got, err := s.Replicas(t.Context(), ask...)
	if err != nil {
		t.Fatalf("replicas: %v", err)
	}
	same(t, got, want)
	got, err = s.Replicas(t.Context())
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v for nobody", got, err)
	}
}

func testRootHistory(t *testing.T, s store.Store) {
	_, err := s.RootHistory(t.Context(), "i")
	wantKind(t, err, trove.KindNotFound)
	for _, h := range []trove.RootHistory{
		{InstanceID: "i", UserID: "u", Enabled: Start},
		{InstanceID: "i", UserID: "u", Enabled: Start, Disabled: Start.Add(time.Hour)},
		{InstanceID: "i", UserID: "w", Enabled: Start.Add(2 * time.Hour)},
	} {
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetRootHistory(ctx, h) })
		got, err := s.RootHistory(t.Context(), "i")
		if err != nil {
			t.Fatalf("root history: %v", err)
		}
		same(t, got, h)
	}
}

func testDatastores(t *testing.T, s store.Store) {
	d := trove.Datastore{ID: trove.NewID(), Name: "mariadb"}
	e := trove.Datastore{ID: trove.NewID(), Name: "alpha", DefaultVersionID: "x"}
	v := trove.DatastoreVersion{
		ID: trove.NewID(), DatastoreID: d.ID, DatastoreName: "mariadb", Name: "10.11", Version: "10.11.6", Manager: "mariadb", ImageID: "img", Active: true,
		Packages: []string{"mariadb-server"}, Capabilities: trove.Capabilities{Port: 3306, Volume: true, ReservedUsers: []string{"root"}},
		FlavorIDs: []string{"1"}, VolumeTypes: []string{"fast"},
	}
	w := trove.DatastoreVersion{ID: trove.NewID(), DatastoreID: e.ID, DatastoreName: "alpha", Name: "1"}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutDatastore(ctx, d), tx.PutDatastore(ctx, e), tx.PutDatastoreVersion(ctx, v), tx.PutDatastoreVersion(ctx, w))
	})
	d.DefaultVersionID = v.ID
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutDatastore(ctx, d) })
	all, err := s.Datastores(t.Context())
	if err != nil {
		t.Fatalf("datastores: %v", err)
	}
	same(t, all, []trove.Datastore{e, d})
	for _, name := range []string{d.ID, d.Name} {
		got, err := s.Datastore(t.Context(), name)
		if err != nil {
			t.Fatalf("datastore %s: %v", name, err)
		}
		same(t, got, d)
	}
	v.Active = false
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutDatastoreVersion(ctx, v) })
	got, err := s.DatastoreVersion(t.Context(), v.ID)
	if err != nil {
		t.Fatalf("version: %v", err)
	}
	same(t, got, v)
	for id, want := range map[string][]trove.DatastoreVersion{"": {w, v}, d.ID: {v}, "nope": nil} {
		found, err := s.DatastoreVersions(t.Context(), id)
		if err != nil {
			t.Fatalf("versions of %q: %v", id, err)
		}
		same(t, found, want)
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.DeleteDatastoreVersion(ctx, v.ID), tx.DeleteDatastore(ctx, d.ID), tx.DeleteDatastore(ctx, "nope"))
	})
	_, err = s.Datastore(t.Context(), "mariadb")
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Datastore 'mariadb' cannot be found.")
	_, err = s.DatastoreVersion(t.Context(), v.ID)
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Datastore version '"+v.ID+"' cannot be found.")
}
