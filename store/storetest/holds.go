package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// errInUse is what a transaction says that would delete what another one needs.
var errInUse = errors.New("it is in use")

// needed is a row, what needs it and what deletes it.
type needed struct {
	name string
	use  func(ctx context.Context, tx store.Tx) error // makes what needs it, and holds it
	// remove deletes it, and looks for what needs it.
	remove func(ctx context.Context, tx store.Tx) error
}

func needs(t *testing.T, s store.Store) []needed {
	t.Helper()
	d := trove.Datastore{ID: trove.NewID(), Name: "d"}
	v := trove.DatastoreVersion{ID: trove.NewID(), DatastoreID: d.ID, Name: "1"}
	g := trove.Configuration{ID: trove.NewID(), ProjectID: "p", Name: "g", DatastoreVersionID: trove.NewID(), Created: Start, Updated: Start}
	empty := trove.Datastore{ID: trove.NewID(), Name: "empty"}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutDatastore(ctx, d), tx.PutDatastore(ctx, empty), tx.PutDatastoreVersion(ctx, v), tx.InsertConfiguration(ctx, g))
	})
	i := Instance("p")
	i.DatastoreVersionID, i.ConfigurationID = v.ID, g.ID
	of := trove.DatastoreVersion{ID: trove.NewID(), DatastoreID: empty.ID, Name: "1"}
	return []needed{
		{
			"datastore version", func(ctx context.Context, tx store.Tx) error {
				i := i
				i.ID, i.ConfigurationID = trove.NewID(), ""
				return errors.Join(tx.InsertInstance(ctx, i), tx.HoldDatastoreVersion(ctx, v.ID))
			}, func(ctx context.Context, tx store.Tx) error {
				err := tx.DeleteDatastoreVersion(ctx, v.ID)
				use, err2 := tx.VersionUse(ctx, v.ID)
				return inUse(use != "", err, err2)
			},
		},
		{
			"configuration group", func(ctx context.Context, tx store.Tx) error {
				i := i
				i.ID = trove.NewID()
				return errors.Join(tx.InsertInstance(ctx, i), tx.HoldConfiguration(ctx, g.ID))
			}, func(ctx context.Context, tx store.Tx) error {
				err := tx.DeleteConfiguration(ctx, g.ID)
				n, err2 := tx.CountConfigured(ctx, g.ID)
				return inUse(n > 0, err, err2)
			},
		},
		{
			"datastore", func(ctx context.Context, tx store.Tx) error {
				return errors.Join(tx.HoldDatastore(ctx, empty.ID), tx.PutDatastoreVersion(ctx, of))
			}, func(ctx context.Context, tx store.Tx) error {
				err := tx.HoldDatastore(ctx, empty.ID)
				found, err2 := tx.DatastoreVersions(ctx, empty.ID)
				if err := inUse(len(found) > 0, err, err2); err != nil {
					return err
				}
				return tx.DeleteDatastore(ctx, empty.ID)
			},
		},
	}
}

func inUse(used bool, errs ...error) error {
	if used {
		errs = append(errs, errInUse)
	}
	return errors.Join(errs...)
}

// meet begins the second transaction while the first one has done everything but its commit.
func meet(t *testing.T, s store.Store, first, second func(ctx context.Context, tx store.Tx) error) (err1, err2 error) {
	t.Helper()
	done := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		err1 = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := first(ctx, tx); err != nil {
				return err
			}
			once.Do(func() { close(done) })
			return clock.Sleep(ctx, 100*time.Millisecond) // the second one runs into it, or passes it
		})
		once.Do(func() { close(done) })
	})
	<-done
	err2 = s.InTx(t.Context(), second)
	wg.Wait()
	return err1, err2
}

// testHoldThenDelete: who deletes sees what was made by one that had not committed when he began.
func testHoldThenDelete(t *testing.T, s store.Store) {
	for _, n := range needs(t, s) {
		if err, deleted := meet(t, s, n.use, n.remove); err != nil || !errors.Is(deleted, errInUse) {
			t.Errorf("%s: its use: %v; its delete: %v, want that it is in use", n.name, err, deleted)
		}
	}
}

// testDeleteThenHold: who makes something sees that what it needs is deleted by one that had not committed when he began.
func testDeleteThenHold(t *testing.T, s store.Store) {
	for _, n := range needs(t, s) {
		err, used := meet(t, s, n.remove, n.use)
		if err != nil {
			t.Errorf("delete of the %s: %v", n.name, err)
		}
		wantKind(t, used, trove.KindNotFound)
	}
}

// testHoldsDoNotExclude: of many that need the same row at once none fails, and what they hold is as it was.
func testHoldsDoNotExclude(t *testing.T, s store.Store) {
	all := needs(t, s)
	var wg sync.WaitGroup
	for range 8 {
		for _, n := range all[:2] {
			wg.Go(func() {
				if err := s.InTx(t.Context(), n.use); err != nil {
					t.Errorf("%s: %v", n.name, err)
				}
			})
		}
	}
	wg.Wait()
	found, err := s.Configurations(t.Context(), store.ConfigurationFilter{})
	if err != nil || len(found) != 1 || found[0].Version != 1 {
		t.Errorf("configuration groups: %+v, %v", found, err)
	}
}
