package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func events(t *testing.T, s store.Store, instance string, after int64, limit int) []trove.InstanceEvent {
	t.Helper()
	got, err := s.InstanceEvents(t.Context(), instance, after, limit)
	if err != nil {
		t.Fatalf("events: %v", err)
	}
	return got
}

// happened returns an event as it is read back when it was written once.
func happened(instance string, seq int64, at time.Time, kind string) trove.InstanceEvent {
	return trove.InstanceEvent{InstanceID: instance, Seq: seq, At: at, First: at, Count: 1, Kind: kind, Sentence: kind + " – ü", Details: "line 1\nline 2"}
}

func testInstanceEvents(t *testing.T, s store.Store) {
	i, other := insert(t, s, Instance("p")), trove.NewID()
	var want []trove.InstanceEvent
	for n := range int64(3) {
		e := happened(i.ID, n+1, Start.Add(time.Duration(n)*time.Second), "engine.failed")
		want = append(want, e)
		e.Seq, e.Count, e.First = 0, 0, time.Time{}
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(tx.AppendInstanceEvent(ctx, e), tx.AppendInstanceEvent(ctx, trove.InstanceEvent{InstanceID: other, At: Start, Kind: "k"}))
		})
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, Start) })
	same(t, events(t, s, i.ID, 0, 0), want)
	same(t, events(t, s, i.ID, 1, 1), want[1:2])
	same(t, events(t, s, i.ID, 3, 0), nil)
	same(t, len(events(t, s, other, 0, 0)), 3)
}

func testEventsAreBounded(t *testing.T, s store.Store) {
	id := trove.NewID()
	const more = 7
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for n := range store.KeptEvents + more {
			if err := tx.AppendInstanceEvent(ctx, trove.InstanceEvent{InstanceID: id, At: Start, Kind: "k", Sentence: fmt.Sprint(n)}); err != nil {
				return err
			}
		}
		return nil
	})
	got := events(t, s, id, 0, 0)
	if len(got) != store.KeptEvents || got[0].Sentence != fmt.Sprint(more) || got[len(got)-1].Seq != store.KeptEvents+more {
		t.Errorf("%d events from %q to number %d", len(got), got[0].Sentence, got[len(got)-1].Seq)
	}
}

func testEventsAreCounted(t *testing.T, s store.Store) {
	id := trove.NewID()
	count := func(after time.Duration, kind string) {
		t.Helper()
		e := happened(id, 0, Start.Add(after), kind)
		e.Count = 0
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.CountInstanceEvent(ctx, e, 10*time.Minute) })
	}
	count(0, "a")
	count(time.Minute, "b")
	count(9*time.Minute, "a")
	count(10*time.Minute, "a") // the first one is too old: another line
	count(11*time.Minute, "a")
	first := happened(id, 1, Start.Add(9*time.Minute), "a")
	first.First, first.Count = Start, 2
	third := happened(id, 3, Start.Add(11*time.Minute), "a")
	third.First, third.Count = Start.Add(10*time.Minute), 2
	same(t, events(t, s, id, 0, 0), []trove.InstanceEvent{first, happened(id, 2, Start.Add(time.Minute), "b"), third})
}

// testInstanceTimeline merges what operations and the instance itself say, page by page.
func testInstanceTimeline(t *testing.T, s store.Store) {
	a, b := claimed(t, s), claimed(t, s)
	at := func(n int) time.Time { return Start.Add(time.Duration(n) * time.Second) }
	entry := func(n int, seq int64, outcome string) trove.TimelineEntry {
		e := trove.TimelineEntry{OperationID: a.ID, OperationKind: a.Kind, Step: "volume"}
		e.InstanceEvent = trove.InstanceEvent{InstanceID: a.Target, Seq: seq, At: at(n), First: at(n), Count: 1, Kind: "operation." + outcome, Sentence: "says"}
		return e
	}
	say := func(op string, n int, outcome string) trove.OperationEvent {
		return trove.OperationEvent{OperationID: op, At: at(n), Step: "volume", Outcome: outcome, Sentence: "says"}
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.AppendInstanceEvent(ctx, happened(a.Target, 0, at(2), "engine.failed")), // written first, happened second
			tx.AppendOperationLog(ctx, say(a.ID, 1, "started")), tx.AppendOperationLog(ctx, say(a.ID, 2, "waiting")), tx.AppendOperationLog(ctx, say(a.ID, 2, "done")),
			tx.AppendOperationLog(ctx, say(b.ID, 1, "again")), tx.AppendInstanceEvent(ctx, happened(b.Target, 0, at(0), "engine.failed")),
		)
	})
	want := []trove.TimelineEntry{
		entry(1, 1, "started"), {InstanceEvent: happened(a.Target, 1, at(2), "engine.failed")}, entry(2, 2, "waiting"), entry(2, 3, "done"),
	}
	for size := 1; size <= len(want)+1; size++ {
		var got []trove.TimelineEntry
		for mark := (trove.TimelineMark{}); ; mark = got[len(got)-1].Mark() {
			page, err := s.Timeline(t.Context(), a.Target, mark, size)
			if err != nil || len(page) > size {
				t.Fatalf("pages of %d: %d entries, %v", size, len(page), err)
			}
			if got = append(got, page...); len(page) < size {
				break
			}
		}
		same(t, got, want)
	}
}
