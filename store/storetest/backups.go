package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Backup returns a backup with every column set.
func Backup(project, instance string) trove.Backup {
	return trove.Backup{
		ID: trove.NewID(), ProjectID: project, InstanceID: instance, Name: "nightly – ü", Description: "before the update", ParentID: trove.NewID(),
		State: trove.BackupCompleted, Location: "https://swift/v1/AUTH_x/c/o.gz", Size: 0.61, Checksum: "d41d8cd98f00b204e9800998ecf8427e",
		DatastoreVersionID: "v-1", StorageDriver: "swift", Created: Start, Updated: Start,
	}
}

func insertBackups(t *testing.T, s store.Store, bs ...trove.Backup) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for _, b := range bs {
			if err := tx.InsertBackup(ctx, b); err != nil {
				return err
			}
		}
		return nil
	})
}

func testBackup(t *testing.T, s store.Store) {
	want := Backup("p", trove.NewID())
	bare := trove.Backup{ID: trove.NewID(), ProjectID: "p", Name: "n", State: trove.BackupRestored, Created: Start, Updated: Start}
	insertBackups(t, s, want, bare)
	for _, b := range []trove.Backup{want, bare} {
		got, err := s.Backup(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, b)
	}
	now := Start.Add(time.Hour)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateBackup(ctx, want.ID, now, func(b *trove.Backup) error {
			same(t, *b, want)
			b.Name, b.Description, b.ParentID, b.State, b.Location, b.Size, b.Checksum = "other", "", "", trove.BackupFailed, "", 2.5, "x"
			b.DatastoreVersionID, b.StorageDriver = "v-2", "cinder"
			return nil
		})
	})
	want.Name, want.Description, want.ParentID, want.State, want.Location, want.Size, want.Checksum = "other", "", "", trove.BackupFailed, "", 2.5, "x"
	want.DatastoreVersionID, want.StorageDriver, want.Updated = "v-2", "cinder", now
	got, err := s.Backup(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateBackup(ctx, want.ID, now, func(*trove.Backup) error { return errNo })
	})
	if !errors.Is(err, errNo) {
		t.Errorf("got %v, want the error of the change", err)
	}
	for range 2 { // gone is fine
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteBackup(ctx, want.ID, now) })
	}
	for id, want := range map[string]bool{want.ID: true, bare.ID: false, trove.NewID(): false} {
		if gone, err := s.BackupDeleted(t.Context(), id); gone != want || err != nil {
			t.Errorf("BackupDeleted(%s) = %t, %v, want %t", id, gone, err, want)
		}
	}
	_, err = s.Backup(t.Context(), want.ID)
	wantMissing(t, err, want.ID)
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateBackup(ctx, want.ID, now, func(*trove.Backup) error { return nil })
	})
	wantMissing(t, err, want.ID)
}

func testBackupList(t *testing.T, s store.Store) {
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutDatastore(ctx, trove.Datastore{ID: "ds", Name: "mariadb"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{ID: "v-1", DatastoreID: "ds", Name: "1"}))
	})
	one, two := trove.NewID(), trove.NewID()
	all := []trove.Backup{Backup("p", one), Backup("p", two), Backup("p", one), Backup("q", one)}
	for n := range all {
		all[n].Updated = Start.Add(time.Duration(n) * time.Minute)
	}
	all[1].State, all[1].DatastoreVersionID = trove.BackupFailed, "v-other"
	all[2].ParentID = all[0].ID
	gone := Backup("p", one)
	insertBackups(t, s, append(all, gone)...)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteBackup(ctx, gone.ID, Start) })
	for name, c := range map[string]struct {
		f    store.BackupFilter
		want []int
	}{
		"all, the newest change first": {store.BackupFilter{}, []int{3, 2, 1, 0}},
		"project":                      {store.BackupFilter{ProjectID: "p"}, []int{2, 1, 0}},
		"instance":                     {store.BackupFilter{InstanceID: one}, []int{3, 2, 0}},
		"project and instance":         {store.BackupFilter{ProjectID: "p", InstanceID: one}, []int{2, 0}},
		"children":                     {store.BackupFilter{ParentID: all[0].ID}, []int{2}},
		"datastore":                    {store.BackupFilter{DatastoreID: "ds"}, []int{3, 2, 0}},
		"states":                       {store.BackupFilter{States: []trove.BackupState{trove.BackupFailed, trove.BackupNew}}, []int{1}},
		"page":                         {store.BackupFilter{Offset: 1, Limit: 2}, []int{2, 1}},
		"behind the end":               {store.BackupFilter{Offset: 9, Limit: 2}, nil},
		"offset alone":                 {store.BackupFilter{Offset: 3}, []int{0}},
	} {
		got, err := s.Backups(t.Context(), c.f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []trove.Backup{}
		for _, n := range c.want {
			want = append(want, all[n])
		}
		if len(got) == 0 {
			got = []trove.Backup{}
		}
		t.Run(name, func(t *testing.T) { same(t, got, want) })
	}
}

// testBackingUp follows what an instance says of its backups: it is true as long as one of them runs.
func testBackingUp(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	check := func(when string, want bool) {
		t.Helper()
		if got := get(t, s, i.ID); got.BackingUp != want {
			t.Errorf("%s: backing up is %v", when, got.BackingUp)
		}
		page, err := s.Instances(t.Context(), store.InstanceFilter{ProjectID: "p", Limit: 5})
		if err != nil || len(page) != 1 || page[0].BackingUp != want {
			t.Errorf("%s: the page says %+v, %v", when, page, err)
		}
	}
	check("before", false)
	a, b := Backup("p", i.ID), Backup("p", i.ID)
	a.State, b.State = trove.BackupNew, trove.BackupSaving
	insertBackups(t, s, a, b, Backup("p", i.ID))
	check("two run", true)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateBackup(ctx, a.ID, Start, func(b *trove.Backup) error { b.State = trove.BackupCompleted; return nil })
	})
	check("one runs", true)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, i.ID, Start, func(i *trove.Instance) error { i.BackingUp = false; return nil }) // not written
	})
	check("one runs, the instance was written", true)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteBackup(ctx, b.ID, Start) })
	check("none runs", false)
	building := Backup("p", i.ID)
	building.State = trove.BackupBuilding
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.InsertBackup(ctx, building), errNo)
	})
	if !errors.Is(err, errNo) {
		t.Fatal(err)
	}
	check("rolled back", false)
}

func testBackupStrategies(t *testing.T, s store.Store) {
	first := trove.BackupStrategy{ProjectID: "p", Backend: "swift", Container: "box", Created: Start}
	second := trove.BackupStrategy{ProjectID: "p", InstanceID: "i", Backend: "swift", Container: "box2", Created: Start}
	other := trove.BackupStrategy{ProjectID: "q", InstanceID: "i", Backend: "swift", Container: "box", Created: Start}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutBackupStrategy(ctx, other), tx.PutBackupStrategy(ctx, second), tx.PutBackupStrategy(ctx, first))
	})
	second.Container, second.Created = "box3", Start.Add(time.Second)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutBackupStrategy(ctx, second) })
	check := func(f store.StrategyFilter, want ...trove.BackupStrategy) {
		t.Helper()
		got, err := s.BackupStrategies(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	check(store.StrategyFilter{}, first, second, other)
	check(store.StrategyFilter{ProjectID: "p"}, first, second)
	check(store.StrategyFilter{ProjectID: "p", InstanceID: "i"}, second)
	check(store.StrategyFilter{ProjectID: "nope"})
	for range 2 { // gone is fine
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteBackupStrategy(ctx, "p", "") })
	}
	check(store.StrategyFilter{ProjectID: "p"}, second)
}
