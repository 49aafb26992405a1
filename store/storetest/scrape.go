package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/store"
)

func testScrapeTokens(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	_, err := s.ScrapeToken(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
	for n, hash := range []string{"first", "second"} {
		want := store.ScrapeToken{InstanceID: i.ID, Hash: hash, UserID: "ü", Created: Start.Add(time.Duration(n) * time.Minute)}
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutScrapeToken(ctx, want) })
		got, err := s.ScrapeToken(t.Context(), i.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	for range 2 {
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteScrapeToken(ctx, i.ID) })
		_, err = s.ScrapeToken(t.Context(), i.ID)
		wantMissing(t, err, i.ID)
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		if err := tx.PutScrapeToken(ctx, store.ScrapeToken{InstanceID: i.ID, Hash: "h", Created: Start}); err != nil {
			return err
		}
		return tx.DeleteInstance(ctx, i.ID, Start)
	})
	_, err = s.ScrapeToken(t.Context(), i.ID)
	wantMissing(t, err, i.ID)
}
