package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func testAuthorities(t *testing.T, s store.Store) {
	authority := func(id string, made time.Time) store.Authority {
		return store.Authority{ID: id, Certificate: "certificate of " + id, Cross: "ü", SealedKey: "sealed " + id, Made: made, Ends: made.Add(time.Hour)}
	}
	all := func() []store.Authority {
		t.Helper()
		got, err := s.Authorities(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first, second := authority("a", Start), authority("b", Start) // made at once: who is newer is not a matter of clocks
	add := func(a store.Authority, newest string) error {
		return s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertAuthority(ctx, a, newest) })
	}
	same(t, len(all()), 0)
	wantKind(t, add(first, "another"), trove.KindConflict)
	if err := add(first, ""); err != nil {
		t.Fatal(err)
	}
	same(t, all(), []store.Authority{first})
	wantKind(t, add(second, ""), trove.KindConflict)

	// Two that know the same newest one: one of them comes first.
	won := make(chan error, 2)
	for _, id := range []string{"b", "c"} {
		go func() { won <- add(authority(id, Start), "a") }()
	}
	lost := 0
	for range 2 {
		if err := <-won; err != nil {
			wantKind(t, err, trove.KindConflict)
			lost++
		}
	}
	got := all()
	if lost != 1 || len(got) != 2 || got[0].ID == "a" || got[1].ID != "a" {
		t.Errorf("%d of two were refused; authorities: %+v", lost, got)
	}
	for range 2 {
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteAuthority(ctx, "a") })
	}
	same(t, len(all()), 1)
}

func testCertificates(t *testing.T, s store.Store) {
	i, silent, j := Instance("p"), Instance("p"), Instance("q")
	insert(t, s, i, silent, j)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: i.ID, SeenAt: Start, BootID: "1"}, {InstanceID: j.ID, SeenAt: Start, BootID: "1"}})
	})
	due := func(ends, now time.Time, want ...string) {
		t.Helper()
		got, err := s.DueCertificates(t.Context(), "a", ends, now, 10)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, id := range got {
			found[id] = true
		}
		if len(got) != len(want) {
			t.Errorf("due: %q, want %q", got, want)
		}
		for _, id := range want {
			if !found[id] {
				t.Errorf("due: %q, want %q", got, want)
			}
		}
	}
	due(Start, Start, i.ID, j.ID) // the third was never heard of
	one, err := s.DueCertificates(t.Context(), "a", Start, Start, 1)
	if len(one) != 1 || err != nil {
		t.Errorf("one at most: %q, %v", one, err)
	}
	put := func(c store.Certificate) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutCertificate(ctx, c) })
	}
	put(store.Certificate{InstanceID: i.ID, AuthorityID: "a", Ends: Start.Add(time.Hour)})
	due(Start.Add(time.Minute), Start, j.ID)
	due(Start.Add(2*time.Hour), Start, i.ID, j.ID)
	put(store.Certificate{InstanceID: i.ID, AuthorityID: "b", Ends: Start.Add(time.Hour)})
	due(Start.Add(time.Minute), Start, i.ID, j.ID) // of another authority
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.PutOffCertificate(ctx, j.ID, Start.Add(time.Minute)), tx.PutOffCertificate(ctx, i.ID, Start))
	})
	due(Start, Start, i.ID) // it still has the other authority's
	due(Start, Start.Add(time.Minute), i.ID, j.ID)
	put(store.Certificate{InstanceID: i.ID, AuthorityID: "a", Ends: Start.Add(time.Hour)})
	due(Start, Start)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.ForgetCertificate(ctx, i.ID) })
	due(Start, Start, i.ID)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.DeleteInstance(ctx, i.ID, Start), tx.ForgetCertificate(ctx, j.ID))
	})
	due(Start, Start, j.ID)
}
