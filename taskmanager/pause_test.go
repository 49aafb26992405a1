package taskmanager

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestLooksAtACloudAreFewAndNotLate(t *testing.T) {
	const first = 500 * time.Millisecond
	for _, long := range []time.Duration{time.Second, 6 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute} {
		var waited, pause time.Duration
		looks := 0
		for waited < long {
			pause = patientPause(first, looks)
			waited += pause
			looks++
		}
		if late := first + long/4; waited-long > late {
			t.Errorf("what takes %s is noticed %s late", long, waited-long)
		}
		if pause > 15*time.Second {
			t.Errorf("after %s the pause is %s", long, pause)
		}
		if most := 10 + int(long/(10*time.Second)); looks > most {
			t.Errorf("what takes %s is looked at %d times, more than %d", long, looks, most)
		}
	}
}

// TestAfterAnOutageAStepLooksSoon has a service away for minutes. What it is then asked for is looked at as soon as what was asked for at the beginning.
func TestAfterAnOutageAStepLooksSoon(t *testing.T) {
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const outage, look = 2 * time.Minute, 500 * time.Millisecond
	m := &Manager{patience: cloud.Patience{Look: look}}
	now := clock.NewManual(time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC))
	back := now.Now().Add(outage)
	var pauses []time.Duration
	step := func(_ context.Context, op *workflow.Op) (workflow.Outcome, error) {
		if now.Now().Before(back) {
			return workflow.Outcome{}, trove.Errorf(trove.KindUnavailable, "Cinder cannot be reached.")
		}
		pauses = append(pauses, m.pause(op))
		if len(pauses) == 8 {
			return workflow.Done(), nil
		}
		return workflow.Again(pauses[len(pauses)-1], "waiting for the volume"), nil
	}
	e, err := workflow.New(workflow.Config{Store: s, Clock: now, Definitions: []*workflow.Definition{{Kind: "k", Steps: []workflow.Step{{Name: "volume", Do: step}}}}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := workflow.Enqueue(ctx, tx, now.Now(), workflow.Request{Kind: "k", Target: trove.NewID(), ProjectID: "p", RequestID: "req-1"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for len(pauses) < 8 {
		if now.Add(100 * time.Millisecond); now.Now().After(back.Add(time.Minute)) {
			t.Fatalf("looked with the pauses %v in a minute", pauses)
		}
		if _, err := e.RunOne(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for n, pause := range pauses {
		if want := patientPause(look, n); pause != want {
			t.Errorf("the pause after look %d is %s, want %s", n, pause, want)
		}
	}
}
