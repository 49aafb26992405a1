package api_test

import (
	"context"
	"net/http"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/store"
)

// endingStore shows inside transactions an operation that has ended before the next statement, as another process of a READ COMMITTED database may do.
type endingStore struct{ store.Store }

func (s endingStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	return s.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return fn(ctx, endingTx{tx}) })
}

type endingTx struct{ store.Tx }

func (endingTx) OpenOperation(_ context.Context, target string) (trove.Operation, error) {
	return trove.Operation{ID: trove.NewID(), Kind: trove.OpRestart, Target: target}, nil
}

// TestDeleteWhileTheOperationEnds: it must not be answered as if the instance was not there.
func TestDeleteWhileTheOperationEnds(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.Store = endingStore{c.Store} })
	id := w.built(t)
	w.must(t, http.StatusAccepted, "admin_other", http.MethodPost, "/instances/"+id+"/action", `{"reset_status":{}}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
	if row, open := w.openOperation(t, id); !open || row.Kind != trove.OpDelete {
		t.Errorf("the open operation is %+v", row.Operation)
	}
}
