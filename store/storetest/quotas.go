package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func quotas(t *testing.T, s store.Store, project string) map[string]trove.Quota {
	t.Helper()
	found, err := s.Quotas(t.Context(), project)
	if err != nil {
		t.Fatalf("quotas: %v", err)
	}
	byName := map[string]trove.Quota{}
	for _, q := range found {
		byName[q.Resource] = q
	}
	return byName
}

func take(t *testing.T, s store.Store, amounts map[string]int) error {
	t.Helper()
	return insist(t, s, func(ctx context.Context, tx store.Tx) error { return tx.TakeQuota(ctx, "p", amounts) })
}

func testQuotas(t *testing.T, s store.Store) {
	defaults := map[string]trove.Quota{
		trove.QuotaInstances: {Resource: trove.QuotaInstances, Limit: 10},
		trove.QuotaRAM:       {Resource: trove.QuotaRAM, Limit: -1},
		trove.QuotaVolumes:   {Resource: trove.QuotaVolumes, Limit: 40},
		trove.QuotaBackups:   {Resource: trove.QuotaBackups, Limit: 50},
	}
	same(t, quotas(t, s, "p"), defaults)
	amounts := map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 40, trove.QuotaRAM: 1 << 30, trove.QuotaBackups: 0}
	if err := take(t, s, amounts); err != nil {
		t.Fatalf("take: %v", err)
	}
	same(t, quotas(t, s, "p")[trove.QuotaVolumes].InUse, 40)
	err := take(t, s, map[string]int{trove.QuotaVolumes: 1})
	wantKind(t, err, trove.KindOverLimit)
	same(t, trove.MessageOf(err), "Quota exceeded for resources: ['volumes'].")

	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p", trove.QuotaVolumes, 41) })
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p", trove.QuotaBackups, 3) })
	if err := take(t, s, map[string]int{trove.QuotaVolumes: 1}); err != nil {
		t.Errorf("take up to the new limit: %v", err)
	}
	same(t, quotas(t, s, "p")[trove.QuotaVolumes], trove.Quota{Resource: trove.QuotaVolumes, Limit: 41, InUse: 41})
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p", trove.QuotaVolumes, 1) })
	wantKind(t, take(t, s, map[string]int{trove.QuotaVolumes: 1}), trove.KindOverLimit)

	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.GiveQuota(ctx, "p", map[string]int{trove.QuotaVolumes: 100, trove.QuotaRAM: 1}), tx.GiveQuota(ctx, "other", amounts))
	})
	same(t, quotas(t, s, "p")[trove.QuotaVolumes].InUse, 0)
	same(t, quotas(t, s, "p")[trove.QuotaRAM].InUse, 1<<30-1)
	same(t, quotas(t, s, "other"), defaults)

	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p", "wishes", 1) })
	wantKind(t, err, trove.KindBadRequest)
	if take(t, s, map[string]int{"wishes": 1}) == nil || take(t, s, map[string]int{trove.QuotaVolumes: -1}) == nil {
		t.Error("an unknown resource or a negative amount was taken")
	}
}

func testQuotaAllOrNone(t *testing.T, s store.Store) {
	// The caller swallows the error and commits: still nothing may be taken.
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		err := tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaInstances: 11, trove.QuotaBackups: 1, trove.QuotaVolumes: 41})
		wantKind(t, err, trove.KindOverLimit)
		same(t, trove.MessageOf(err), "Quota exceeded for resources: ['instances', 'volumes'].")
		return nil
	})
	for resource, q := range quotas(t, s, "p") {
		if q.InUse != 0 {
			t.Errorf("%d of %s are taken", q.InUse, resource)
		}
	}
}

func testQuotaConcurrent(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	var got atomic.Int64
	for range 16 {
		wg.Go(func() {
			for range 4 {
				err := take(t, s, map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 1})
				switch {
				case err == nil:
					got.Add(1)
				case trove.KindOf(err) != trove.KindOverLimit:
					t.Errorf("take: %v", err)
				}
			}
		})
	}
	wg.Wait()
	same(t, got.Load(), 10)
	same(t, quotas(t, s, "p")[trove.QuotaInstances].InUse, 10)
	same(t, quotas(t, s, "p")[trove.QuotaVolumes].InUse, 10)
}
