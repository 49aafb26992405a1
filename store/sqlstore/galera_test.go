package sqlstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestGalera uses both nodes of a cluster, each as one controller: what one was told is accepted the other reads at once, a quota holds over both, and what
// fails at the cluster's certification runs again.
func TestGalera(t *testing.T) {
	nodes := dbserver.Galera(t)
	cfg := nodes[0].Database(t)
	here := open(t, sqlstore.Config{Server: cfg})
	second := *cfg
	second.Hosts = []string{fmt.Sprintf("127.0.0.1:%d", nodes[1].Port)}
	there := open(t, sqlstore.Config{Server: &second})

	t.Run("a read after an accepted write sees it", func(t *testing.T) {
		// Without waiting, the other node lacks some of the rows.
		late := nodes[1].Open(t, cfg.Database)
		missed := 0
		for n := range 200 {
			i := storetest.Instance("reads")
			change(t, here, func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
			if n%2 == 0 {
				var found int
				if err := late.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM instance WHERE id='`+i.ID+`'`).Scan(&found); err != nil {
					t.Fatal(err)
				}
				missed += 1 - found
				continue
			}
			if _, err := there.Instance(t.Context(), i.ID); err != nil {
				t.Fatalf("the %dth: %v", n, err)
			}
			err := there.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { _, err := tx.Instance(ctx, i.ID); return err })
			if err != nil {
				t.Fatalf("the %dth in a transaction: %v", n, err)
			}
		}
		t.Logf("%d of 100 reads that did not wait missed the row", missed)
	})
	t.Run("a quota holds over both nodes", func(t *testing.T) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		created, refused := 0, 0
		for w := range 6 {
			wg.Go(func() {
				for range 4 {
					i := storetest.Instance("quota")
					err := []*sqlstore.Store{here, there}[w%2].InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
						if err := tx.TakeQuota(ctx, "quota", map[string]int{trove.QuotaInstances: 1}); err != nil {
							return err
						}
						return tx.InsertInstance(ctx, i)
					})
					mu.Lock()
					switch {
					case err == nil:
						created++
					case trove.KindOf(err) == trove.KindOverLimit:
						refused++
					default:
						t.Errorf("create: %v", err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		all, err := there.Instances(t.Context(), store.InstanceFilter{ProjectID: "quota"})
		if err != nil || len(all) != 10 || created != 10 || refused != 14 {
			t.Errorf("%d created, %d refused, %d there, %v: want 10, 14, 10", created, refused, len(all), err)
		}
		got, err := here.Quotas(t.Context(), "quota")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range got {
			if q.Resource == trove.QuotaInstances && q.InUse != created {
				t.Errorf("%d in use, %d created", q.InUse, created)
			}
		}
	})
}
