package workflow_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// TestAProjectWhoseGuestsAreSilentDelaysNobody has more operations of one project than there are workers, and than one look reads, all in steps
// that wait; another project's operation is done meanwhile. Afterwards all of them are.
func TestAProjectWhoseGuestsAreSilentDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		answers := make(chan struct{})
		var most, now atomic.Int64
		e := running(t, s, &workflow.Definition{Kind: "silent", Steps: []workflow.Step{{Name: "a", Do: func(ctx context.Context, _ *workflow.Op) (workflow.Outcome, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			select {
			case <-answers:
			case <-ctx.Done():
			}
			return workflow.Done(), ctx.Err()
		}}}}, &workflow.Definition{Kind: "quick", Steps: []workflow.Step{{Name: "a", Do: newWorld().make("a")}}})
		var silent []string
		for n := range 100 {
			silent = append(silent, enqueue(t, s, clock.System{}.Now(), "silent", fmt.Sprintf("s%d", n)))
		}
		e.Wake()
		synctest.Wait()
		var other string
		err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) (err error) {
			other, err = workflow.Enqueue(ctx, tx, clock.System{}.Now(), workflow.Request{Kind: "quick", Target: "q", ProjectID: "other"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		e.Wake()
		synctest.Wait()
		if op := state(t, s, other); op.State != trove.OperationDone {
			t.Errorf("the other project's operation: %+v", op)
		}
		if most.Load() != 12 {
			t.Errorf("%d of 16 workers were with one project, want 12", most.Load())
		}
		close(answers)
		synctest.Wait()
		for _, id := range silent {
			if op := state(t, s, id); op.State != trove.OperationDone {
				t.Fatalf("after the guests answered: %+v", op)
			}
		}
	})
}
