package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func row(target string) store.OperationRow {
	return store.OperationRow{
		Operation: trove.Operation{
			ID: trove.NewID(), Kind: "instance.create", Target: target, ProjectID: "p", RequestID: "req-1", State: trove.OperationOpen,
			Sentence: "waiting for a worker", Created: Start, Updated: Start, Deadline: Start.Add(time.Hour),
		},
		WakeAt: Start, Input: []byte(`{"a":1}`),
	}
}

func enqueue(t *testing.T, s store.Store, o store.OperationRow) store.OperationRow {
	t.Helper()
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.EnqueueOperation(ctx, o) })
	return o
}

func due(t *testing.T, s store.Store, now time.Time) []store.OperationRow {
	t.Helper()
	rows, err := s.DueOperations(t.Context(), now, 100)
	if err != nil {
		t.Fatalf("due: %v", err)
	}
	return rows
}

func claim(t *testing.T, s store.Store, seen store.OperationRow, owner string, until time.Time) (store.OperationRow, error) {
	t.Helper()
	var got store.OperationRow
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		var err error
		got, err = tx.ClaimOperation(ctx, seen, owner, until)
		return err
	})
	return got, err
}

func save(t *testing.T, s store.Store, o store.OperationRow, now time.Time) (store.OperationRow, error) {
	t.Helper()
	var got store.OperationRow
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		var err error
		got, err = tx.SaveOperation(ctx, o, now)
		return err
	})
	return got, err
}

func operation(t *testing.T, s store.Store, id string) trove.Operation {
	t.Helper()
	o, err := s.Operation(t.Context(), id)
	if err != nil {
		t.Fatalf("operation: %v", err)
	}
	return o
}

// claimed enqueues an operation and claims it until Start+10s.
func claimed(t *testing.T, s store.Store) store.OperationRow {
	t.Helper()
	o := enqueue(t, s, row(trove.NewID()))
	for _, r := range due(t, s, Start) {
		if r.ID == o.ID {
			got, err := claim(t, s, r, "me", Start.Add(10*time.Second))
			if err != nil {
				t.Fatalf("claim: %v", err)
			}
			return got
		}
	}
	t.Fatal("the new operation is not due")
	return o
}

func testOperation(t *testing.T, s store.Store) {
	o := row(trove.NewID())
	if n, err := s.CountOpenOperations(t.Context()); n != 0 || err != nil {
		t.Errorf("%d are open, %v", n, err)
	}
	enqueue(t, s, o)
	if n, err := s.CountOpenOperations(t.Context()); n != 1 || err != nil {
		t.Errorf("%d are open, %v", n, err)
	}
	if rows := due(t, s, Start.Add(-time.Microsecond)); len(rows) != 0 {
		t.Errorf("due too early: %v", rows)
	}
	rows := due(t, s, Start)
	if len(rows) != 1 {
		t.Fatalf("%d are due", len(rows))
	}
	want := o
	want.Version, want.Claim = rows[0].Version, rows[0].Claim
	same(t, rows[0], want)

	got, err := claim(t, s, rows[0], "me", Start.Add(10*time.Second))
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	want.Owner, want.WakeAt, want.Claim = "me", Start.Add(10*time.Second), got.Claim
	same(t, got, want)
	if len(due(t, s, Start.Add(10*time.Second-1))) != 0 {
		t.Error("a claimed operation is due before its lease ends")
	}

	now := Start.Add(time.Second)
	next := got
	next.Step, next.StepNo, next.Steps, next.StepStarted, next.Attempt = "volume", 1, 4, now, 3
	next.Undoing, next.Error, next.Sentence, next.Percent, next.Notes = true, "broken", "removing the volume", 40, []byte(`{"n":2}`)
	next.Deadline, next.WakeAt = Start.Add(2*time.Hour), now.Add(10*time.Second)
	saved, err := save(t, s, next, now)
	if err != nil {
		t.Fatalf("save: %v", err)
	}
	want = next
	want.Updated, want.Version, want.Claim = now, saved.Version, saved.Claim
	same(t, saved, want)
	if saved.Version <= got.Version || saved.Claim <= got.Claim {
		t.Errorf("the counters did not grow: %+v", saved)
	}
	same(t, operation(t, s, o.ID), want.Operation)
	open, err := s.OpenOperation(t.Context(), o.Target)
	if err != nil {
		t.Fatalf("open operation: %v", err)
	}
	same(t, open, want.Operation)
	if _, err = save(t, s, next, now); !errors.Is(err, store.ErrLost) {
		t.Errorf("saved with an old claim: %v", err)
	}

	end := now.Add(time.Second)
	last := saved
	last.Sentence, last.Percent, last.Notes = "done", 100, []byte(`{"n":3}`)
	closeWith := func(o store.OperationRow, state trove.OperationState) error {
		return s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.CloseOperation(ctx, o, state, end) })
	}
	if err := closeWith(got, trove.OperationUndone); !errors.Is(err, store.ErrLost) {
		t.Errorf("closed with an old claim: %v", err)
	}
	if closeWith(last, trove.OperationOpen) == nil {
		t.Error("closed as open")
	}
	if err := closeWith(last, trove.OperationUndone); err != nil {
		t.Fatalf("close: %v", err)
	}
	want = last
	want.State, want.Updated, want.Version = trove.OperationUndone, end, operation(t, s, o.ID).Version
	same(t, operation(t, s, o.ID), want.Operation)
	if len(due(t, s, Start.AddDate(100, 0, 0))) != 0 {
		t.Error("a closed operation is due")
	}
	_, err = s.OpenOperation(t.Context(), o.Target)
	wantKind(t, err, trove.KindNotFound)
	if err := closeWith(last, trove.OperationDone); !errors.Is(err, store.ErrLost) {
		t.Errorf("closed twice: %v", err)
	}
	_, err = s.Operation(t.Context(), "nope")
	wantMissing(t, err, "nope")
}

func testBusy(t *testing.T, s store.Store) {
	target := trove.NewID()
	first := enqueue(t, s, row(target))
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.EnqueueOperation(ctx, row(target)) })
	if !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v, want busy", err)
	}
	enqueue(t, s, row(trove.NewID())) // another target is free

	// Many at once: one gets in.
	other := trove.NewID()
	var wg sync.WaitGroup
	var in atomic.Int64
	for range 8 {
		wg.Go(func() {
			err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.EnqueueOperation(ctx, row(other)) })
			switch {
			case err == nil:
				in.Add(1)
			case !errors.Is(err, store.ErrBusy):
				t.Errorf("enqueue: %v", err)
			}
		})
	}
	wg.Wait()
	same(t, in.Load(), 1)

	got, err := claim(t, s, store.OperationRow{Operation: first.Operation, Claim: due(t, s, Start)[0].Claim, WakeAt: Start}, "me", Start.Add(time.Second))
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.CloseOperation(ctx, got, trove.OperationDone, Start)
	})
	enqueue(t, s, row(target)) // the first is closed: the target is free
}

func testClaim(t *testing.T, s store.Store) {
	got := claimed(t, s)
	seen := got
	if _, err := claim(t, s, seen, "thief", Start.Add(time.Minute)); err != nil {
		t.Errorf("a row can be claimed as it was seen: %v", err) // whether it is due was the caller's look
	}
	if _, err := save(t, s, got, Start); !errors.Is(err, store.ErrLost) {
		t.Errorf("the first owner wrote after it was robbed: %v", err)
	}
	if _, err := claim(t, s, seen, "late", Start.Add(time.Minute)); !errors.Is(err, store.ErrLost) {
		t.Errorf("claimed from an old look: %v", err)
	}
}

func testClaimConcurrent(t *testing.T, s store.Store) {
	for range 5 {
		o := enqueue(t, s, row(trove.NewID()))
		rows := due(t, s, Start)
		if len(rows) != 1 || rows[0].ID != o.ID {
			t.Fatalf("due: %v", rows)
		}
		var wg sync.WaitGroup
		var won atomic.Int64
		for n := range 8 {
			wg.Go(func() {
				_, err := claim(t, s, rows[0], string(rune('a'+n)), Start.Add(time.Minute))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrLost):
					t.Errorf("claim: %v", err)
				}
			})
		}
		wg.Wait()
		same(t, won.Load(), 1)
	}
}

func testTakeOver(t *testing.T, s store.Store) {
	got := claimed(t, s) // its lease ends in 10 s
	closed := claimed(t, s)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.CloseOperation(ctx, closed, trove.OperationDone, Start)
	})
	take := func(at time.Time) (n int) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) (err error) {
			n, err = tx.TakeOverOperations(ctx, at)
			return err
		})
		return n
	}
	same(t, take(Start.Add(time.Second)), 1)
	same(t, take(Start.Add(time.Second)), 0)
	same(t, len(due(t, s, Start.Add(time.Second-1))), 0)
	rows := due(t, s, Start.Add(time.Second))
	same(t, len(rows), 1)
	if _, err := save(t, s, got, Start); !errors.Is(err, store.ErrLost) {
		t.Errorf("the one that is dead wrote: %v", err)
	}
	if _, err := claim(t, s, rows[0], "heir", Start.Add(5*time.Second)); err != nil {
		t.Fatalf("claim: %v", err)
	}
	same(t, take(Start.Add(time.Minute)), 1) // what is due before stays so
	same(t, len(due(t, s, Start.Add(5*time.Second))), 1)
}

func testLease(t *testing.T, s store.Store) {
	got := claimed(t, s)
	renew := func(owner string, end time.Time) int {
		t.Helper()
		var n int
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			var err error
			n, err = tx.RenewOperations(ctx, owner, end)
			return err
		})
		return n
	}
	beforeRenewal := due(t, s, Start.Add(10*time.Second))
	same(t, len(beforeRenewal), 1)
	same(t, renew("me", Start.Add(20*time.Second)), 1)
	same(t, renew("nobody", Start.Add(20*time.Second)), 0)
	same(t, len(due(t, s, Start.Add(20*time.Second-1))), 0)
	// Who saw the row before the renewal cannot take it.
	if _, err := claim(t, s, beforeRenewal[0], "thief", Start.Add(time.Minute)); !errors.Is(err, store.ErrLost) {
		t.Errorf("took a renewed row: %v", err)
	}
	// A renewal does not disturb its owner.
	got.WakeAt = Start.Add(25 * time.Second)
	got, err := save(t, s, got, Start.Add(5*time.Second))
	if err != nil {
		t.Fatalf("save after a renewal: %v", err)
	}
	rows := due(t, s, Start.Add(25*time.Second))
	same(t, len(rows), 1)
	if _, err := claim(t, s, rows[0], "heir", Start.Add(time.Minute)); err != nil {
		t.Fatalf("claim after the lease: %v", err)
	}
	same(t, renew("me", Start.Add(time.Minute)), 0)
	if _, err := save(t, s, got, Start); !errors.Is(err, store.ErrLost) {
		t.Errorf("the stale owner wrote: %v", err)
	}
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.CloseOperation(ctx, got, trove.OperationDone, Start)
	})
	if !errors.Is(err, store.ErrLost) {
		t.Errorf("the stale owner closed: %v", err)
	}
}

func signal(t *testing.T, s store.Store, target string, now time.Time) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SignalOperation(ctx, target, now) })
}

func testEvents(t *testing.T, s store.Store) {
	signal(t, s, "nobody", Start) // no operation, no error
	now := Start.Add(time.Second)

	// The event comes while the step looks: the release must not sleep over it.
	got := claimed(t, s)
	signal(t, s, got.Target, now)
	if len(due(t, s, Start.Add(10*time.Second-1))) != 0 {
		t.Error("an event freed a claimed row")
	}
	got.Owner, got.WakeAt = "", Start.Add(time.Hour)
	got, err := save(t, s, got, now)
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	same(t, got.WakeAt, now)
	rows := due(t, s, now)
	same(t, len(rows), 1)

	// Nothing new: it sleeps. Then the event wakes it.
	got, err = claim(t, s, rows[0], "me", now.Add(10*time.Second))
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	got.Owner, got.WakeAt = "", Start.Add(time.Hour)
	if got, err = save(t, s, got, now); err != nil {
		t.Fatalf("release: %v", err)
	}
	same(t, got.WakeAt, Start.Add(time.Hour))
	same(t, len(due(t, s, Start.Add(time.Hour-1))), 0)
	signal(t, s, got.Target, now.Add(time.Second))
	same(t, len(due(t, s, now.Add(time.Second))), 1)

	// An event before the last save of a kept lease was seen by it.
	other := claimed(t, s)
	signal(t, s, other.Target, now)
	if other, err = save(t, s, other, now); err != nil {
		t.Fatalf("advance: %v", err)
	}
	same(t, other.Events, 1)
	other.Owner, other.WakeAt = "", Start.Add(time.Hour)
	if other, err = save(t, s, other, now); err != nil {
		t.Fatalf("release: %v", err)
	}
	same(t, other.WakeAt, Start.Add(time.Hour))
}

func testCancel(t *testing.T, s store.Store) {
	cancel := func(id string) error {
		return s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.CancelOperation(ctx, id, Start.Add(time.Second))
		})
	}
	wantMissing(t, cancel("nope"), "nope")
	got := claimed(t, s)
	if err := cancel(got.ID); err != nil {
		t.Fatalf("cancel: %v", err)
	}
	if o := operation(t, s, got.ID); !o.Cancelled || o.Version <= got.Version {
		t.Errorf("got %+v", o)
	}
	got.Owner, got.WakeAt = "", Start.Add(time.Hour)
	saved, err := save(t, s, got, Start.Add(2*time.Second)) // the owner did not know yet
	if err != nil {
		t.Fatalf("save after a cancel: %v", err)
	}
	if !saved.Cancelled {
		t.Error("the owner's save took the cancel back")
	}
	same(t, len(due(t, s, Start.Add(2*time.Second))), 1)

	got = claimed(t, s)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.CloseOperation(ctx, got, trove.OperationDone, Start)
	})
	wantMissing(t, cancel(got.ID), got.ID)
}

func testVisibleVersion(t *testing.T, s store.Store) {
	got := claimed(t, s)
	say := func(sentence string, percent int) trove.Operation {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return tx.SayOperation(ctx, got.ID, sentence, percent, Start.Add(time.Second))
		})
		return operation(t, s, got.ID)
	}
	a := say("copying the image", 10)
	if a.Version <= got.Version || a.Sentence != "copying the image" || a.Percent != 10 {
		t.Errorf("got %+v", a)
	}
	if b := say("copying the image", 11); b.Version <= a.Version {
		t.Errorf("a new percentage did not raise the version: %+v", b)
	}
	// A sentence needs no claim and takes none.
	saved, err := save(t, s, got, Start.Add(2*time.Second))
	if err != nil {
		t.Fatalf("save after a sentence: %v", err)
	}
	before := operation(t, s, got.ID)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.CloseOperation(ctx, saved, trove.OperationDone, Start)
	})
	after := operation(t, s, got.ID)
	if after.Version <= before.Version {
		t.Error("the end did not raise the version")
	}
	same(t, say("too late", 99), after)
}

func testTimeline(t *testing.T, s store.Store) {
	a, b := claimed(t, s), claimed(t, s)
	var want []trove.OperationEvent
	for n, outcome := range []string{"started", "waiting", "done"} {
		e := trove.OperationEvent{OperationID: a.ID, At: Start.Add(time.Duration(n) * time.Second), Step: "volume", Outcome: outcome, Sentence: strings.Repeat("ä", n)}
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(tx.AppendOperationLog(ctx, e), tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: b.ID, At: Start, Outcome: "again"}))
		})
		e.Seq = int64(n + 1)
		want = append(want, e)
	}
	for after := range int64(4) {
		got, err := s.OperationLog(t.Context(), a.ID, after)
		if err != nil {
			t.Fatalf("timeline: %v", err)
		}
		same(t, len(got), len(want[after:]))
		for n := range got {
			same(t, got[n], want[int(after)+n])
		}
	}
}

func testOperations(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	var ids []string
	for n := range 3 {
		o := row(i.ID)
		o.Created = Start.Add(time.Duration(n) * time.Minute)
		enqueue(t, s, o)
		got, err := claim(t, s, due(t, s, Start)[0], "me", Start.Add(time.Second))
		if err != nil {
			t.Fatalf("claim: %v", err)
		}
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return tx.CloseOperation(ctx, got, trove.OperationDone, Start)
		})
		ids = append([]string{o.ID}, ids...)
	}
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, Start) })
	for limit, want := range map[int][]string{0: ids, 2: ids[:2], 5: ids} {
		found, err := s.Operations(t.Context(), i.ID, limit)
		if err != nil {
			t.Fatalf("operations: %v", err)
		}
		var got []string
		for _, o := range found {
			got = append(got, o.ID)
		}
		same(t, got, want)
	}
}
