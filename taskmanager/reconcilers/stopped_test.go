package reconcilers_test

import (
	"context"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// ended writes an operation that came to a step and ended.
func (w *world) ended(kind, step string, state trove.OperationState) {
	w.t.Helper()
	op := w.enqueue(kind)
	w.closes(op, step, state)
}

func (w *world) closes(op, step string, state trove.OperationState) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		rows, err := tx.DueOperations(ctx, w.clock.Now(), 10)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.ID != op {
				continue
			}
			if row, err = tx.ClaimOperation(ctx, row, "worker", w.clock.Now().Add(time.Minute)); err != nil {
				return err
			}
			if err := tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: op, At: w.clock.Now(), Step: step, Outcome: "started"}); err != nil {
				return err
			}
			if err := tx.CloseOperation(ctx, row, state, w.clock.Now()); err != nil {
				return err
			}
		}
		return tx.UpdateInstance(ctx, id, w.clock.Now(), func(i *trove.Instance) error { i.Task = trove.TaskNone; return nil })
	})
	w.clock.Add(time.Second)
}

// open returns the open operation of the instance, "" if there is none.
func (w *world) open() trove.Operation {
	w.t.Helper()
	op, err := w.store.OpenOperation(w.t.Context(), id)
	if err != nil && !trove.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return op
}

// down lets the guest say for a while that its database is down, or until something is asked for.
func (w *world) down(long time.Duration) {
	w.t.Helper()
	for end := w.clock.Now().Add(long); w.clock.Now().Before(end) && w.open().ID == ""; w.clock.Add(15 * time.Second) {
		w.says(trove.ServiceShutdown)
		w.once()
	}
}

// TestDatabaseLeftStoppedByAFailedOperationStaysDown is about operations that stop the database and start it in the end.
func TestDatabaseLeftStoppedByAFailedOperationStaysDown(t *testing.T) {
	type ended struct {
		kind, step string
		state      trove.OperationState
	}
	for name, c := range map[string]struct {
		before []ended
		starts bool
	}{
		"an upgrade was taken back":        {[]ended{{trove.OpUpgrade, "engine", trove.OperationUndone}}, true},
		"a way back has no start":          {[]ended{{trove.OpUpgradeRollback, "engine", trove.OperationUndone}}, true},
		"a reboot":                         {[]ended{{trove.OpReboot, "engine", trove.OperationUndone}}, true},
		"a migration, and then a resize":   {[]ended{{trove.OpMigrate, "engine", trove.OperationUndone}, {trove.OpResizeVolume, "volume", trove.OperationDone}}, true},
		"a stop that failed":               {[]ended{{trove.OpStop, "engine", trove.OperationUndone}}, true},
		"a restart was tried since":        {[]ended{{trove.OpRebuild, "engine", trove.OperationUndone}, {trove.OpRestart, "restart", trove.OperationUndone}}, true},
		"an administrator stopped it":      {[]ended{{trove.OpReboot, "engine", trove.OperationUndone}, {trove.OpStopEngine, "engine", trove.OperationDone}}, false},
		"and an upgrade was refused since": {[]ended{{trove.OpStopEngine, "engine", trove.OperationDone}, {trove.OpUpgrade, "check", trove.OperationUndone}}, false},
		"it was up since":                  {[]ended{{trove.OpUpgrade, "engine", trove.OperationUndone}, {trove.OpRestart, "restart", trove.OperationDone}}, false},
		"there was nothing":                {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(id)
			for _, o := range c.before {
				w.ended(o.kind, o.step, o.state)
			}
			w.down(45 * time.Second)
			if op := w.open(); op.ID != "" {
				t.Fatalf("%s was asked for at once", op.Kind)
			}
			w.down(time.Hour)
			if op := w.open(); (op.Kind == trove.OpRestart) != c.starts || (w.events()[trove.EventEngineLeft] == 1) != c.starts {
				t.Errorf("%q was asked for, events %v", op.Kind, w.events())
			}
			if i := w.instance(); (i.Task == trove.TaskRebooting) != c.starts {
				t.Errorf("the task is %v", i.Task)
			}
		})
	}
}

// TestDatabaseLeftStoppedIsStartedAgainAndAgain three times, after longer and longer pauses; then it is said that nobody tries any more.
func TestDatabaseLeftStoppedIsStartedAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.ended(trove.OpUpgrade, "engine", trove.OperationUndone)
	for _, most := range []time.Duration{2 * time.Minute, 6 * time.Minute, 31 * time.Minute} {
		began := w.clock.Now()
		w.down(24 * time.Hour)
		op := w.open()
		if took := w.clock.Now().Sub(began); op.Kind != trove.OpRestart || took > most || took < most/3 {
			t.Fatalf("%q was asked for after %s", op.Kind, took)
		}
		w.closes(op.ID, "restart", trove.OperationUndone)
	}
	w.down(24 * time.Hour)
	if op := w.open(); op.ID != "" {
		t.Errorf("%s was asked for once more", op.Kind)
	}
	w.wantEvents(map[string]int{trove.EventEngineLeft: 3, trove.EventEngineDown: 1})
}

// TestDatabaseIsStartedWhileItsDataIsKeptAside by nobody: neither what an upgrade has left behind nor the data of another version than the machine's.
func TestDatabaseIsStartedWhileItsDataIsKeptAside(t *testing.T) {
	for name, change := range map[string]func(w *world, k *trove.KeptData){
		"the kept data is all that there is": func(_ *world, k *trove.KeptData) { k.DatastoreVersionID = versionID },
		"the machine is the one of before": func(w *world, k *trove.KeptData) {
			w.tx(func(ctx context.Context, tx store.Tx) error {
				v, err := tx.DatastoreVersion(ctx, versionID)
				if err != nil {
					return err
				}
				v.ImageID = "image-2"
				return tx.PutDatastoreVersion(ctx, v)
			})
			k.ImageID = "image-1"
		},
		"an upgrade is in error": func(w *world, _ *trove.KeptData) {
			w.change(func(i *trove.Instance) { i.Task = trove.TaskUpgradingError })
		},
		"it was stopped": func(w *world, _ *trove.KeptData) {
			if err := w.cloud.StopMachine(w.t.Context(), id); err != nil {
				w.t.Fatal(err)
			}
			w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(id)
			w.ended(trove.OpUpgradeRollback, "engine", trove.OperationUndone)
			k := trove.KeptData{InstanceID: id, DatastoreVersionID: "44444444-4444-4444-8444-444444444444", ImageID: "image-0", Since: w.clock.Now()}
			change(w, &k)
			w.tx(func(ctx context.Context, tx store.Tx) error { return tx.PutKeptData(ctx, k) })
			w.down(time.Hour)
			if op := w.open(); op.ID != "" {
				t.Errorf("%s was asked for", op.Kind)
			}
		})
	}
}
