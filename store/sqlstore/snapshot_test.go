package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func openAt(t *testing.T, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func change(t *testing.T, s *sqlstore.Store, fn func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// TestASnapshotIsOfOneMoment copies while transactions move an amount between two projects: in every copy the sum is the same.
func TestASnapshotIsOfOneMoment(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	s := openAt(t, path)
	const total = 8
	change(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.TakeQuota(ctx, "a", map[string]int{trove.QuotaInstances: total})
	})
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() {
		from, to := "a", "b"
		for n := 0; ctx.Err() == nil; n++ {
			if n%total == 0 && n > 0 {
				from, to = to, from
			}
			_ = s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
				one := map[string]int{trove.QuotaInstances: 1}
				if err := tx.GiveQuota(ctx, from, one); err != nil {
					return err
				}
				return tx.TakeQuota(ctx, to, one)
			})
		}
	})
	defer writers.Wait()
	defer stop()
	if err := sqlstore.Snapshot(t.Context(), filepath.Join(dir, "nothing"), filepath.Join(dir, "of-nothing")); err == nil {
		t.Error("a store that is not there was copied")
	}
	for n := range 5 {
		to := filepath.Join(dir, fmt.Sprint("copy", n))
		if err := sqlstore.Snapshot(t.Context(), path, to); err != nil {
			t.Fatal(err)
		}
		sum := 0
		c := openAt(t, to)
		for _, project := range []string{"a", "b"} {
			all, err := c.Quotas(t.Context(), project)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range all {
				if q.Resource == trove.QuotaInstances {
					sum += q.InUse
				}
			}
		}
		if sum != total {
			t.Errorf("copy %d has %d of %d", n, sum, total)
		}
	}
}

// TestARestoredStoreIsTrueAgain: what was under way is closed and nothing is undone, a wish to delete stays, quotas are counted anew.
func TestARestoredStoreIsTrueAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		tasks := map[string]struct {
			task, want trove.Task
			kind       string
			fault      bool
			server     [2]trove.ServerStatus // before and after
			volume     string
		}{
			// What an open create has made may be in use meanwhile: a row without a machine would give it to nobody.
			"building": {trove.TaskBuilding, trove.TaskBuildErrorServer, trove.OpCreate, true, [2]trove.ServerStatus{trove.ServerNone, trove.ServerError}, ""},
			"adopting": {trove.TaskBuilding, trove.TaskBuildErrorServer, trove.OpCreate, true, [2]trove.ServerStatus{trove.ServerNone, trove.ServerNone}, "v"},
			"resizing": {trove.TaskResizing, trove.TaskNone, trove.OpResizeVolume, true, [2]trove.ServerStatus{trove.ServerActive, trove.ServerActive}, "v"},
			"deleting": {trove.TaskDeleting, trove.TaskDeleting, trove.OpDelete, false, [2]trove.ServerStatus{trove.ServerActive, trove.ServerActive}, "v"},
			// A create that has failed before has emptied its row.
			"failed":    {trove.TaskBuildErrorServer, trove.TaskBuildErrorServer, "", false, [2]trove.ServerStatus{trove.ServerNone, trove.ServerNone}, ""},
			"untouched": {trove.TaskNone, trove.TaskNone, "", false, [2]trove.ServerStatus{trove.ServerActive, trove.ServerActive}, "v"},
		}
		n := uint32(0)
		for id, c := range tasks {
			n++
			change(t, s, func(ctx context.Context, tx store.Tx) error {
				err := tx.InsertInstance(ctx, trove.Instance{
					ID: id, ProjectID: "p", Name: id, Created: now, Updated: now, Task: c.task, ServerStatus: c.server[0], VolumeID: c.volume, ServerID: n, Version: 1,
					Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 5},
				})
				if err != nil || c.kind == "" {
					return err
				}
				return tx.EnqueueOperation(ctx, store.OperationRow{
					Operation: trove.Operation{ID: "op-" + id, Kind: c.kind, Target: id, ProjectID: "p", Created: now, Updated: now, Deadline: now.Add(time.Hour)}, WakeAt: now,
				})
			})
		}
		change(t, s, func(ctx context.Context, tx store.Tx) error { // what is counted wrongly is put right
			if err := tx.InsertBackup(ctx, trove.Backup{ID: "b", ProjectID: "p", State: trove.BackupCompleted, Created: now, Updated: now}); err != nil {
				return err
			}
			return tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaInstances: 9, trove.QuotaVolumes: 40})
		})
		for again, want := range []int{4, 0} {
			closed, err := s.AfterRestore(t.Context(), "It was restored.", now)
			if err != nil || len(closed) != want {
				t.Fatalf("call %d closed %d operations: %v", again+1, len(closed), err)
			}
		}
		for id, c := range tasks {
			i, err := s.Instance(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if i.Task != c.want || (i.Fault != nil) != c.fault || c.fault && i.Fault.Message != "It was restored." {
				t.Errorf("%s: task %v, fault %+v", id, i.Task, i.Fault)
			}
			if i.ServerStatus != c.server[1] {
				t.Errorf("%s: the machine is %q, want %q", id, i.ServerStatus, c.server[1])
			}
			if _, err := s.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
				t.Errorf("%s has an open operation: %v", id, err)
			}
		}
		if due, err := s.DueOperations(t.Context(), now.Add(24*time.Hour), 10); err != nil || len(due) > 0 {
			t.Errorf("due: %v %v", due, err)
		}
		all, err := s.Quotas(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			if want := map[string]int{trove.QuotaInstances: 6, trove.QuotaVolumes: 30, trove.QuotaBackups: 1}[q.Resource]; q.InUse != want {
				t.Errorf("%s: %d in use, want %d", q.Resource, q.InUse, want)
			}
		}
	})
}
