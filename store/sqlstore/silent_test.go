package sqlstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestATransactionOfALostHostLetsGo: a host that is lost, its connection never closed, keeps the rows of an open transaction from nobody for long, and is not
// believed when it comes back.
func TestATransactionOfALostHostLetsGo(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			cfg := dbserver.Start(t, kind, dbserver.Options{}).Database(t)
			lost, other := open(t, sqlstore.Config{Server: cfg}), open(t, sqlstore.Config{Server: cfg})
			put := func(ctx context.Context, tx store.Tx, version string) error {
				return tx.PutDatastore(ctx, trove.Datastore{ID: "shared", Name: "shared", DefaultVersionID: version})
			}
			change(t, other, func(ctx context.Context, tx store.Tx) error { return put(ctx, tx, "first") })
			written, back, ended := make(chan struct{}), make(chan struct{}), make(chan error)
			letGo := sync.OnceFunc(func() { close(back) })
			defer letGo()
			attempts := 0
			go func() {
				ended <- lost.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					if attempts++; attempts > 1 {
						return nil // it sees that it has to begin anew
					}
					err := put(ctx, tx, "lost")
					close(written)
					<-back
					return err
				})
			}()
			<-written
			began := time.Now()
			change(t, other, func(ctx context.Context, tx store.Tx) error { return put(ctx, tx, "second") })
			if waited := time.Since(began); waited > 30*time.Second {
				t.Errorf("a row was kept for %s", waited)
			}
			letGo()
			if err := <-ended; err == nil && attempts == 1 {
				t.Error("the lost transaction was believed")
			}
			d, err := other.Datastore(t.Context(), "shared")
			if err != nil || d.DefaultVersionID != "second" {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}
