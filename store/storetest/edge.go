package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func call(owner, state string) store.IdempotentCall {
	return store.IdempotentCall{
		ID: "c", Owner: owner, State: state, LeaseEnd: Start.Add(time.Minute), Expires: Start.Add(time.Hour), AnswerEnds: Start.Add(time.Hour), Fingerprint: "f – " + owner, Answer: "a",
	}
}

func testIdempotentCalls(t *testing.T, s store.Store) {
	_, err := s.IdempotentCall(t.Context(), "c")
	wantMissing(t, err, "c")
	read := func() store.IdempotentCall {
		t.Helper()
		c, err := s.IdempotentCall(t.Context(), "c")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	change := func(want error, fn func(ctx context.Context, tx store.Tx) error) {
		t.Helper()
		if err := s.InTx(t.Context(), fn); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	first, second := call("one", store.CallRunning), call("two", store.CallRunning)
	change(nil, func(ctx context.Context, tx store.Tx) error {
		return tx.ClaimIdempotentCall(ctx, store.IdempotentCall{}, first)
	})
	same(t, read(), first)
	change(nil, func(ctx context.Context, tx store.Tx) error { return tx.ClaimIdempotentCall(ctx, first, second) })
	same(t, read(), second)
	change(store.ErrLost, func(ctx context.Context, tx store.Tx) error {
		return tx.ClaimIdempotentCall(ctx, first, call("three", store.CallRunning))
	})
	change(store.ErrLost, func(ctx context.Context, tx store.Tx) error { return tx.FinishIdempotentCall(ctx, first) })
	change(nil, func(ctx context.Context, tx store.Tx) error { return tx.ReleaseIdempotentCall(ctx, "c", "one") })
	same(t, read(), second)

	second.State, second.Answer, second.Expires = store.CallAnswered, "answer", Start.Add(2*time.Hour)
	for range 2 {
		change(nil, func(ctx context.Context, tx store.Tx) error { return tx.FinishIdempotentCall(ctx, second) })
		same(t, read(), second)
	}
	change(nil, func(ctx context.Context, tx store.Tx) error { return tx.ReleaseIdempotentCall(ctx, "c", "two") })
	same(t, read(), second) // what was done stays
	change(store.ErrLost, func(ctx context.Context, tx store.Tx) error {
		return tx.ClaimIdempotentCall(ctx, call("two", store.CallRunning), call("three", store.CallRunning))
	})
}

func testIdempotentCallReleased(t *testing.T, s store.Store) {
	c := call("one", store.CallRunning)
	for range 2 {
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return tx.ClaimIdempotentCall(ctx, store.IdempotentCall{}, c)
		})
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.ReleaseIdempotentCall(ctx, "c", "one") })
	}
	_, err := s.IdempotentCall(t.Context(), "c")
	wantMissing(t, err, "c")
}

// testIdempotentCallOnce lets many claim the same call at once: one gets it.
func testIdempotentCallOnce(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	got := make([]error, 8)
	for n := range got {
		wg.Go(func() {
			got[n] = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
				if _, err := tx.IdempotentCall(ctx, "c"); !trove.IsNotFound(err) {
					return store.ErrLost
				}
				return tx.ClaimIdempotentCall(ctx, store.IdempotentCall{}, call(fmt.Sprint(n), store.CallRunning))
			})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range got {
		if err == nil {
			won++
		} else if !errors.Is(err, store.ErrLost) {
			t.Error(err)
		}
	}
	same(t, won, 1)
}

func testPruneIdempotentCalls(t *testing.T, s store.Store) {
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for n := range 7 {
			c := call("o", store.CallAnswered)
			c.ID, c.Expires = fmt.Sprint(n), Start.Add(time.Duration(n)*time.Second)
			if n == 6 {
				c.AnswerEnds = Start.Add(4 * time.Second)
			}
			if err := tx.ClaimIdempotentCall(ctx, store.IdempotentCall{}, c); err != nil {
				return err
			}
		}
		return nil
	})
	for _, want := range []int{2, 2, 1, 0} { // 0 to 4 have expired
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			n, err := tx.PruneIdempotentCalls(ctx, Start.Add(4*time.Second), 2)
			same(t, n, want)
			return err
		})
	}
	for n := range 7 {
		if _, err := s.IdempotentCall(t.Context(), fmt.Sprint(n)); (err == nil) != (n > 4) {
			t.Errorf("call %d: %v", n, err)
		}
	}
	five, err5 := s.IdempotentCall(t.Context(), "5")
	six, err6 := s.IdempotentCall(t.Context(), "6")
	if err5 != nil || err6 != nil || five.State != store.CallAnswered || five.Answer == "" || six.State != store.CallDone || six.Answer != "" {
		t.Errorf("got %+v (%v) and %+v (%v)", five, err5, six, err6)
	}
}

func auditRecord(at time.Time) trove.AuditRecord {
	return trove.AuditRecord{
		ID: trove.NewAuditID(at), UserID: "u", UserName: "name – ü", ProjectID: "p", Roles: []string{"member", "reader"}, Remote: "2001:db8::1",
		RequestID: "req-1", Method: "POST", Path: "/v1.0/p/instances", Action: "createInstance", TargetType: "instance", TargetID: "i", OperationID: "o",
		Status: 200, Took: 1234 * time.Microsecond,
	}
}

func audit(t *testing.T, s store.Store, f store.AuditFilter) []trove.AuditRecord {
	t.Helper()
	found, err := s.AuditRecords(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func testAudit(t *testing.T, s store.Store) {
	same(t, audit(t, s, store.AuditFilter{}), nil)
	a, b, c := auditRecord(Start), auditRecord(Start.Add(time.Second)), auditRecord(Start.Add(2*time.Second))
	b.UserID, b.UserName, b.TargetID, b.Method, b.Status, b.Roles = "v", "other", "j", "DELETE", 403, nil
	c.ProjectID = "q"
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.AppendAudit(ctx, b), tx.AppendAudit(ctx, c), tx.AppendAudit(ctx, a))
	})
	b.Roles = []string{}
	yes, no := true, false
	for name, want := range map[string]struct {
		f    store.AuditFilter
		want []trove.AuditRecord
	}{
		"all":       {store.AuditFilter{}, []trove.AuditRecord{c, b, a}},
		"project":   {store.AuditFilter{ProjectID: "p"}, []trove.AuditRecord{b, a}},
		"user":      {store.AuditFilter{User: "v"}, []trove.AuditRecord{b}},
		"user name": {store.AuditFilter{User: "name – ü"}, []trove.AuditRecord{c, a}},
		"target":    {store.AuditFilter{TargetID: "j"}, []trove.AuditRecord{b}},
		"method":    {store.AuditFilter{Method: "DELETE", ProjectID: "p"}, []trove.AuditRecord{b}},
		"succeeded": {store.AuditFilter{Succeeded: &yes}, []trove.AuditRecord{c, a}},
		"refused":   {store.AuditFilter{Succeeded: &no}, []trove.AuditRecord{b}},
		"since":     {store.AuditFilter{Since: Start.Add(time.Second)}, []trove.AuditRecord{c, b}},
		"until":     {store.AuditFilter{Until: Start.Add(time.Second)}, []trove.AuditRecord{a}},
		"page":      {store.AuditFilter{Marker: c.ID, Limit: 1}, []trove.AuditRecord{b}},
	} {
		if got := audit(t, s, want.f); len(got) != len(want.want) {
			t.Errorf("%s: %d records", name, len(got))
		} else {
			same(t, got, want.want)
		}
	}
	same(t, a.At(), Start)
	a.Status, a.TargetID, a.OperationID, a.Took = 500, "k", "", time.Second
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.AmendAudit(ctx, a) })
	same(t, audit(t, s, store.AuditFilter{Marker: b.ID}), []trove.AuditRecord{a})
}

func testAuditOfStrangeTexts(t *testing.T, s store.Store) {
	a := auditRecord(Start)
	a.Path, a.TargetID = "/\x00\xff"+strings.Repeat("ü", 2000), strings.Repeat("x", 999)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.AppendAudit(ctx, a) })
	got := audit(t, s, store.AuditFilter{})
	if len(got) != 1 || !strings.HasPrefix(got[0].Path, "/??üü") || len(got[0].Path) > 1024 || len(got[0].TargetID) != 255 {
		t.Errorf("got %+v", got)
	}
}

func testPruneAudit(t *testing.T, s store.Store) {
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for n := range 10 {
			if err := tx.AppendAudit(ctx, auditRecord(Start.Add(time.Duration(n)*time.Second))); err != nil {
				return err
			}
		}
		return nil
	})
	prune := func(before time.Time, keep, limit, want int) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			n, err := tx.PruneAudit(ctx, before, keep, limit)
			same(t, n, want)
			return err
		})
	}
	prune(Start.Add(3*time.Second), 0, 2, 2)
	prune(Start.Add(3*time.Second), 0, 2, 1) // one of exactly then is kept
	prune(Start, 7, 100, 0)
	prune(Start, 4, 2, 2)
	prune(Start, 4, 2, 1)
	got := audit(t, s, store.AuditFilter{})
	if len(got) != 4 || got[3].At() != Start.Add(6*time.Second) {
		t.Errorf("%d records are left, the oldest of %s", len(got), got[len(got)-1].At())
	}
}
