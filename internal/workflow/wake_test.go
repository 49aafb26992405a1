package workflow_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
)

// TestEventWhileTheStepRunsIsNotLeftToThePoll: the wake-up can come while the operation is still held here, before or after its release; it was
// then seen as running and left to the next poll, which cost a create a second or two.
func TestEventWhileTheStepRunsIsNotLeftToThePoll(t *testing.T) {
	// In a bubble, so that what is measured is waiting and not how busy the machine is.
	synctest.Test(t, eventsWhileTheStepRuns)
}

func eventsWhileTheStepRuns(t *testing.T) {
	const waits = 20
	s := openStore(t)
	var engine *workflow.Engine
	var signals sync.WaitGroup
	defer signals.Wait()
	step := func(ctx context.Context, op *workflow.Op) (workflow.Outcome, error) {
		if op.Attempt() == waits {
			return workflow.Done(), nil
		}
		target := op.Target()
		if op.Attempt()%2 == 0 {
			return workflow.WaitFor("an event that has come"), engine.Signal(ctx, target)
		}
		signals.Go(func() { _ = engine.Signal(context.WithoutCancel(ctx), target) })
		return workflow.WaitFor("an event that comes at the same time"), nil
	}
	engine, err := workflow.New(workflow.Config{
		Store: s, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Poll: time.Hour,
		Definitions: []*workflow.Definition{{Kind: "k", Steps: []workflow.Step{{Name: "s", Do: step}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	began := time.Now()
	for range 5 {
		id := enqueue(t, s, time.Now(), "k", trove.NewID())
		engine.Wake()
		for {
			op, err := s.Operation(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if op.State == trove.OperationDone {
				break
			}
			if time.Since(began) > workflow.LookAgain-time.Second {
				t.Fatalf("after %s the operation has run %d times: an event was left to the timer", time.Since(began), op.Attempt)
			}
			if err := clock.Sleep(ctx, time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
