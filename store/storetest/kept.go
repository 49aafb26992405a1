package storetest

import (
	"context"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// testKeptData: what is kept is replaced, listed by age, in use by its version, and forgotten with the instance.
func testKeptData(t *testing.T, s store.Store) {
	change := func(fn func(ctx context.Context, tx store.Tx) error) {
		t.Helper()
		if err := s.InTx(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	i := Instance("p")
	old := trove.KeptData{InstanceID: i.ID, DatastoreVersionID: "kept-version", ImageID: "image", Since: Start, Bytes: 1 << 40}
	other := trove.KeptData{InstanceID: "other", DatastoreVersionID: "v", Since: Start.Add(time.Hour)}
	_, err := s.KeptData(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	change(func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
	for _, k := range []trove.KeptData{{InstanceID: i.ID, Since: Start}, old, other} {
		change(func(ctx context.Context, tx store.Tx) error { return tx.PutKeptData(ctx, k) })
	}
	got, err := s.KeptData(t.Context(), i.ID)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, old)
	for _, c := range []struct {
		before time.Time
		limit  int
		want   []trove.KeptData
	}{
		{Start.Add(2 * time.Hour), 0, []trove.KeptData{old, other}},
		{Start.Add(2 * time.Hour), 1, []trove.KeptData{old}},
		{Start.Add(time.Minute), 0, []trove.KeptData{old}},
		{Start, 0, nil},
	} {
		all, err := s.AllKeptData(t.Context(), c.before, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		same(t, all, c.want)
	}
	if use, err := s.VersionUse(t.Context(), "kept-version"); err != nil || use != "instance" {
		t.Errorf("the version of data that is kept is used by %q, %v", use, err)
	}
	change(func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, Start) })
	_, err = s.KeptData(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	for range 2 { // gone is fine
		change(func(ctx context.Context, tx store.Tx) error { return tx.DeleteKeptData(ctx, "other") })
	}
	_, err = s.KeptData(t.Context(), "other")
	wantMissing(t, err, "other")
}
