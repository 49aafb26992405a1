package taskmanager_test

import (
	"context"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// TestDeleteOfAnInstanceThatIsGoneEnds: between the look at the row and the request another delete may have come to its end.
func TestDeleteOfAnInstanceThatIsGoneEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.do(trove.OpDelete)
		var id string
		err := w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
			id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{Kind: trove.OpDelete, Target: instanceID, ProjectID: project})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		w.wake()
		if op := w.carryOut(id); op.State != trove.OperationDone {
			t.Errorf("%+v", op)
		}
	})
}
