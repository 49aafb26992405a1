package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Enqueue writes an open operation in the caller's transaction and returns its id, or store.ErrBusy (wrapped) if the target has one already. Wake the
// workers after the commit. The number of steps and the deadline are filled in by the worker that starts it, which knows the definition.
func Enqueue(ctx context.Context, tx store.Tx, now time.Time, r Request) (string, error) {
	input := []byte("null")
	if r.Input != nil {
		var err error
		if input, err = json.Marshal(r.Input); err != nil {
			return "", fmt.Errorf("encode the input of %s: %w", r.Kind, err)
		}
	}
	row := store.OperationRow{
		Operation: trove.Operation{
			ID: trove.NewID(), Kind: r.Kind, Target: r.Target, ProjectID: r.ProjectID, RequestID: r.RequestID, State: trove.OperationOpen,
			Sentence: "waiting for a worker", Created: now, Updated: now,
		},
		WakeAt: now,
		Input:  input,
	}
	if err := tx.EnqueueOperation(ctx, row); err != nil {
		return "", fmt.Errorf("enqueue %s of %s: %w", r.Kind, r.Target, err)
	}
	return row.ID, nil
}
