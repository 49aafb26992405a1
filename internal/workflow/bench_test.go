package workflow_test

import (
	"context"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// durable is a store that waits for the disk, as the real one does.
func durable(b *testing.B) store.Store {
	b.Helper()
	s, err := sqlstore.Open(b.Context(), sqlstore.Config{Path: b.TempDir() + "/store.db"})
	if err != nil {
		b.Fatalf("open the store: %v", err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkDurableStep is one step of an operation of four: claim, transition and close divided among them.
func BenchmarkDurableStep(b *testing.B) {
	s := durable(b)
	step := script(done)
	def := &workflow.Definition{Kind: "k", Steps: []workflow.Step{{Name: "a", Do: step}, {Name: "b", Do: step}, {Name: "c", Do: step}, {Name: "d", Do: step}}}
	e, err := workflow.New(workflow.Config{Store: s, Definitions: []*workflow.Definition{def}})
	if err != nil {
		b.Fatal(err)
	}
	steps := 0
	for b.Loop() {
		if steps%4 == 0 {
			b.StopTimer()
			enqueue(b, s, clock.System{}.Now(), "k", trove.NewID())
			b.StartTimer()
			if ran, err := e.RunOne(context.Background()); err != nil || !ran {
				b.Fatal(ran, err)
			}
		}
		steps++
	}
}

// BenchmarkEnqueue is one operation in a transaction of its own.
func BenchmarkEnqueue(b *testing.B) {
	s := durable(b)
	for b.Loop() {
		enqueue(b, s, clock.System{}.Now(), "k", trove.NewID())
	}
}
