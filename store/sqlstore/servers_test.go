package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestADeadlockRunsTheTransactionAgain lets two transactions take the same two rows in different orders.
func TestADeadlockRunsTheTransactionAgain(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		s := open(t, sqlstore.Config{Server: server})
		change(t, s, func(ctx context.Context, tx store.Tx) error {
			return errors.Join(tx.TakeQuota(ctx, "a", map[string]int{trove.QuotaRAM: 1}), tx.TakeQuota(ctx, "b", map[string]int{trove.QuotaRAM: 1}))
		})
		var runs atomic.Int32
		var first sync.WaitGroup
		first.Add(2)
		var wg sync.WaitGroup
		for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				met := false
				err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					runs.Add(1)
					if err := tx.TakeQuota(ctx, order[0], map[string]int{trove.QuotaRAM: 1}); err != nil {
						return err
					}
					if !met { // both have their first row before either asks for its second
						met = true
						first.Done()
						first.Wait()
					}
					return tx.TakeQuota(ctx, order[1], map[string]int{trove.QuotaRAM: 1})
				})
				if err != nil {
					t.Errorf("%v: %v", order, err)
				}
			})
		}
		wg.Wait()
		if n := runs.Load(); n < 3 {
			t.Errorf("%d runs: there was no deadlock", n)
		}
		for _, project := range []string{"a", "b"} {
			got, err := s.Quotas(t.Context(), project)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range got {
				if q.Resource == trove.QuotaRAM && q.InUse != 3 {
					t.Errorf("%s: %d in use, want 3", project, q.InUse)
				}
			}
		}
	})
}

// TestSealedTextsAreFoundInEveryDatabase: all text columns are looked through, and those that are listed are rewritten unless a worker was quicker.
func TestSealedTextsAreFoundInEveryDatabase(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s, at := open(), storetest.Start
		change(t, s, func(ctx context.Context, tx store.Tx) error {
			for n := range 3 {
				id := fmt.Sprint("o", n)
				err := tx.EnqueueOperation(ctx, store.OperationRow{
					Operation: trove.Operation{ID: id, Kind: "k", Target: id, Created: at, Updated: at}, WakeAt: at, Input: []byte(`{"x":"sealed2.old"}`),
				})
				if err != nil {
					return err
				}
			}
			return tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "sealed2.lost"})
		})
		seen := map[string]int{}
		err := s.VisitTexts(t.Context(), []string{"sealed2.", "v1."}, func(table, column, _ string) { seen[table+"."+column]++ })
		if err != nil || seen["operation.input"] != 3 || seen["datastore.name"] != 1 || len(seen) != 2 {
			t.Errorf("seen: %v, %v", seen, err)
		}
		raced := false
		n, err := s.RewriteSealed(t.Context(), func(_ sqlstore.SealedColumn, _, text string) (string, bool) {
			return strings.ReplaceAll(text, "old", "new"), strings.Contains(text, "old")
		})
		if err != nil || n != 3 {
			t.Errorf("%d rewritten, %v", n, err)
		}
		// A worker writes the notes between our reading and our writing.
		change(t, s, func(ctx context.Context, tx store.Tx) error {
			row, err := tx.ClaimOperation(ctx, mustDue(t, s, "o1", at), "w", at.Add(time.Minute))
			if err != nil {
				return err
			}
			row.Notes = []byte("sealed2.old 1")
			_, err = tx.SaveOperation(ctx, row, at)
			return err
		})
		other := open()
		calls := 0
		n, err = s.RewriteSealed(t.Context(), func(c sqlstore.SealedColumn, _, text string) (string, bool) {
			if calls++; c.Column == "notes" && !raced && strings.Contains(text, "old") {
				raced = true
				change(t, other, func(ctx context.Context, tx store.Tx) error {
					row := mustDue(t, other, "o1", at.Add(time.Hour))
					row.Notes = []byte("sealed2.old 2")
					_, err := tx.SaveOperation(ctx, row, at)
					return err
				})
			}
			return strings.ReplaceAll(text, "old", "new"), strings.Contains(text, "old")
		})
		if err != nil || n != 1 || !raced {
			t.Errorf("%d rewritten, %v", n, err)
		}
		if got := string(mustDue(t, s, "o1", at.Add(time.Hour)).Notes); got != "sealed2.new 2" {
			t.Errorf("the notes are %q", got)
		}
	})
}

func mustDue(t *testing.T, s *sqlstore.Store, id string, now time.Time) store.OperationRow {
	t.Helper()
	due, err := s.DueOperations(t.Context(), now, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range due {
		if o.ID == id {
			return o
		}
	}
	t.Fatalf("%s is not due", id)
	return store.OperationRow{}
}

// TestAServerThatTakesNoWritesIsRefused: one that is read-only is passed over, and said to take no writes.
func TestAServerThatTakesNoWritesIsRefused(t *testing.T) {
	server := dbserver.Start(t, dbserver.MariaDB, dbserver.Options{})
	cfg := server.Database(t)
	open(t, sqlstore.Config{Server: cfg})
	if err := server.Exec(t.Context(), `SET GLOBAL read_only=1`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: cfg}); err == nil || !strings.Contains(err.Error(), "takes no writes") {
		t.Errorf("got %v", err)
	}
}
