package workflow_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
)

// TestAPausedEngineClaimsNothing has the clock go wrong while an operation runs and another one waits.
func TestAPausedEngineClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := openStore(t), newWorld()
		var paused atomic.Bool
		e, err := workflow.New(workflow.Config{Store: s, Pause: paused.Load, Definitions: []*workflow.Definition{
			{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: w.make("a")}}},
			{Kind: "long", Steps: []workflow.Step{
				{Name: "a", Do: func(ctx context.Context, _ *workflow.Op) (workflow.Outcome, error) {
					return workflow.Done(), clock.Sleep(ctx, 20*time.Second)
				}},
				{Name: "b", Do: w.make("long")},
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		long := enqueue(t, s, clock.System{}.Now(), "long", "t1")
		e.Wake()
		synctest.Wait()
		paused.Store(true)
		id := enqueue(t, s, clock.System{}.Now(), "k", "t2")
		e.Wake()
		sleep(t, time.Minute)
		if op := state(t, s, id); op.State != trove.OperationOpen || op.Step != "" {
			t.Errorf("it was claimed: %+v", op)
		}
		if op := state(t, s, long); op.State != trove.OperationDone {
			t.Errorf("what ran was not finished: %+v", op)
		}
		paused.Store(false)
		sleep(t, 2*time.Second)
		if op := state(t, s, id); op.State != trove.OperationDone {
			t.Errorf("it was not taken when the clock was right again: %+v", op)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
