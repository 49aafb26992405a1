package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

const groupID = "44444444-4444-4444-8444-444444444444"

// setGroup makes the world's configuration group, or changes its values as the API does when no guest can be told.
func (w *world) setGroup(values string) {
	w.t.Helper()
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		g, err := tx.Configuration(ctx, groupID)
		made := trove.IsNotFound(err)
		if made {
			g, err = trove.Configuration{ID: groupID, ProjectID: project, Name: "g", DatastoreVersionID: versionID}, nil
		}
		g.Values = nil
		if err := errors.Join(err, json.Unmarshal([]byte(values), &g.Values)); err != nil {
			return err
		}
		if made {
			return tx.InsertConfiguration(ctx, g)
		}
		_, err = tx.BeginConfiguration(ctx, instanceID, time.Now(), time.Now())
		return errors.Join(err, tx.UpdateConfiguration(ctx, g, time.Now()))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) attachGroup() {
	w.t.Helper()
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		_, err := tx.BeginConfiguration(ctx, instanceID, time.Now(), time.Now())
		return errors.Join(err, tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.ConfigurationID = groupID
			return nil
		}))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// overrides returns what the guest's engine has.
func (w *world) overrides() string {
	v, _ := w.fleet.Volume(instanceID)
	b, err := json.Marshal(v.Settings.Overrides)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *world) wantOverrides(when, want string) {
	w.t.Helper()
	if got := w.overrides(); got != want {
		w.t.Errorf("%s the engine has %s, want %s", when, got, want)
	}
}

func (w *world) task() trove.Task {
	w.t.Helper()
	i, err := w.store.Instance(w.t.Context(), instanceID)
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Task
}

func (w *world) do(kind string) {
	w.t.Helper()
	if op := w.carryOut(w.request(kind)); op.State != trove.OperationDone {
		w.t.Fatalf("%s: %+v", kind, op)
	}
}

// TestCreateHasItsConfigurationFromTheFirstStart: before the instance is ACTIVE.
func TestCreateHasItsConfigurationFromTheFirstStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		w.setGroup(`{"Max_Things":5}`)
		create := w.request(trove.OpCreate)
		w.attachGroup()
		if op := w.carryOut(create); op.State != trove.OperationDone {
			t.Fatalf("create: %+v", op)
		}
		v, _ := w.fleet.Volume(instanceID)
		if v.Prepared == nil || string(v.Prepared.Overrides["max_things"]) != "5" {
			t.Errorf("it was prepared with %+v", v.Prepared)
		}
	})
}

// TestConfigurationStaysOverOperations that write the engine's settings anew.
func TestConfigurationStaysOverOperations(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setGroup(`{"max_things":5}`)
		w.attachGroup()
		w.do(trove.OpResizeFlavor)
		w.wantOverrides("after the resize", `{"max_things":5}`)
		w.stopped()
		w.setGroup(`{"max_things":6}`) // while it is stopped
		w.do(trove.OpStart)
		w.wantOverrides("after the start", `{"max_things":6}`)
	})
}

// TestGuestThatWasAwayCatchesUp, without anybody's asking.
func TestGuestThatWasAwayCatchesUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setGroup(`{"max_things":5}`)
		w.attachGroup()
		w.cloud.CrashMachine(instanceID, "the host was restarted")
		_, stop := w.manage()
		defer stop()
		until(t, "the guest to have its configuration", func() bool { return w.overrides() == `{"max_things":5}` })
		w.setGroup(`{"static_things":7}`)
		until(t, "the change to arrive", func() bool { return w.overrides() == `{"static_things":7}` && w.task() == trove.TaskRestartRequired })
	})
}

// TestRestartRequiredEndsWithWhateverRestartsTheMachine, because that starts the engine with all its settings.
func TestRestartRequiredEndsWithWhateverRestartsTheMachine(t *testing.T) {
	for _, kind := range machineKinds {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.setGroup(`{"static_things":7}`)
				w.attachGroup()
				_, stop := w.manage()
				until(t, "a restart to be required", func() bool { return w.task() == trove.TaskRestartRequired })
				stop()
				w.do(kind)
				if task := w.task(); task != trove.TaskNone {
					t.Errorf("afterwards the task is %s", task.Action())
				}
			})
		})
	}
}

// TestRestartRequiredStaysUntilARestart: an operation that does not restart the engine does not end it.
func TestRestartRequiredStaysUntilARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setGroup(`{"static_things":7}`)
		w.attachGroup()
		_, stop := w.manage()
		until(t, "a restart to be required", func() bool { return w.task() == trove.TaskRestartRequired })
		stop()
		w.do(trove.OpUpdateAccess)
		if task := w.task(); task != trove.TaskRestartRequired {
			t.Errorf("after a change of the access rules the task is %s", task.Action())
		}
		w.do(trove.OpRestart)
		if task := w.task(); task != trove.TaskNone {
			t.Errorf("after the restart the task is %s", task.Action())
		}
		w.do(trove.OpUpdateAccess)
		if task := w.task(); task != trove.TaskNone {
			t.Errorf("later the task is %s again", task.Action())
		}
	})
}
