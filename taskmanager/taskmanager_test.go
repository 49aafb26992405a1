package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager"
)

// inWorld runs a test in a world with a conductor and one instance that was created.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		if op := w.carryOut(w.request(trove.OpCreate)); op.State != trove.OperationDone {
			t.Fatalf("create: %+v", op)
		}
		test(t, w)
	})
}

// until waits in the bubble's time.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 3600 {
		if is() {
			return
		}
		time.Sleep(time.Second) //nolint:forbidigo // of the bubble's time
	}
	t.Fatalf("still waiting for: %s", what)
}

// manage runs a whole taskmanager, reconcilers included.
func (w *world) manage() (m *taskmanager.Manager, stop func()) {
	w.t.Helper()
	m, err := taskmanager.New(taskmanager.Config{
		Store: w.store, Cloud: w.cloud, Guests: guestapi.NewClient(w.broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: sealer{},
		Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return m, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) gone() bool {
	_, err := w.store.Instance(w.t.Context(), instanceID)
	return trove.IsNotFound(err)
}

// TestDeleteWhileRestarting: what the API does for a delete of an instance that another operation works on is to set the task and cancel it.
func TestDeleteWhileRestarting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.CrashMachine(instanceID, "so that the restart waits") // its guest is away
		_, stop := w.manage()
		defer stop()
		op := w.request(trove.OpRestart)
		until(t, "the restart to wait for the guest", func() bool {
			o, err := w.store.Operation(t.Context(), op)
			return err == nil && o.Step == "restart" && strings.Contains(o.Sentence, "waiting for the guest")
		})
		began := time.Now()
		err := w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			if err := tx.CancelOperation(ctx, op, time.Now()); err != nil {
				return err
			}
			return tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error { i.Task = trove.TaskDeleting; return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		w.wake()
		until(t, "the instance to be gone", w.gone)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s: the delete waited for the reconcilers' next look", took)
		}
		if left := w.cloud.Leftovers(); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		if o, err := w.store.Operation(t.Context(), op); err != nil || o.State != trove.OperationUndone {
			t.Errorf("the restart is %+v, %v", o, err)
		}
	})
}

// TestHostRestart: machine and guest come back without an operation, and without the guest's losing its identity.
func TestHostRestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before, _ := w.fleet.Volume(instanceID)
		w.cloud.CrashMachine(instanceID, "the host was restarted")
		_, stop := w.manage()
		defer stop()
		until(t, "the database to be healthy", func() bool {
			i, err := w.store.Instance(t.Context(), instanceID)
			return err == nil && w.fleet.Alive() == 1 && i.OperatingStatus(time.Now()) == "HEALTHY"
		})
		after, _ := w.fleet.Volume(instanceID)
		if after.Key != before.Key || after.Prepared == nil || after.Runs["prepare"] != before.Runs["prepare"] {
			t.Errorf("the guest was %+v and is %+v", before, after)
		}
		if ops, err := w.store.Operations(t.Context(), instanceID, 10); err != nil || len(ops) != 1 {
			t.Errorf("operations: %+v, %v", ops, err)
		}
	})
}

// TestLostHello: a step that waits for a guest asks it, before its next heartbeat is due.
func TestLostHello(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		w.broker.DropMessage("trove.v1.guest.*.up.*", 1) // hello
		w.broker.DropMessage("trove.v1.guest.*.up.*", 2) // the first heartbeat
		began := time.Now()
		op := w.carryOut(w.request(trove.OpCreate))
		if took := time.Since(began); op.State != trove.OperationDone || took < workflow.LookAgain || took >= 2*workflow.LookAgain {
			t.Errorf("the create is %s after %s", op.State, took)
		}
	})
}

// TestGuestThatNeverReports ends in an error that says what was waited for, with everything removed.
func TestGuestThatNeverReports(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		w.fleet.Mute(instanceID)
		op := w.carryOut(w.request(trove.OpCreate))
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		if op.State != trove.OperationUndone || i.Task != trove.TaskBuildErrorTimeout || i.Fault == nil || !strings.Contains(i.Fault.Message, "waiting for the guest") {
			t.Errorf("operation %s, task %s, fault %+v", op.State, i.Task.Action(), i.Fault)
		}
		if left := w.cloud.Leftovers(); len(left) > 0 || len(i.Held) > 0 {
			t.Errorf("left over %v, held %v", left, i.Held)
		}
	})
}

// TestUndoDoesNotWaitForAGuestThatIsGone: the instance would be locked for ever, and its machine is only brought back when it is not.
func TestUndoDoesNotWaitForAGuestThatIsGone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		w.flavor = flavorLarge
		w.carryOut(w.request(trove.OpCreate))
		_, stop := w.manage()
		defer stop()
		w.cloud.FailAlways("ResizeMachine", errors.New("there is no room yet"))
		op := w.request(shrinkFlavor)
		until(t, "the machine's turn", func() bool {
			o, err := w.store.Operation(t.Context(), op)
			return err == nil && o.Step == "machine"
		})
		w.cloud.CrashMachine(instanceID, "ended")
		w.cancelOpen(t.Context())
		w.cloud.FailAlways("ResizeMachine", nil)
		until(t, "the resize to be undone", func() bool {
			o, err := w.store.Operation(t.Context(), op)
			return err == nil && o.State == trove.OperationUndone
		})
		until(t, "the machine to be back", func() bool {
			m, err := w.cloud.FindMachine(t.Context(), instanceID)
			return err == nil && m.State == cloud.MachineRunning && m.FlavorID == flavorLarge.ID && w.fleet.Alive() == 1
		})
	})
}

// TestMachineThatIsStillStarting: a resize waits for it.
func TestMachineThatIsStillStarting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.SetLooks(3)
		if err := w.cloud.RebootMachine(t.Context(), instanceID); err != nil {
			t.Fatal(err)
		}
		if op := w.carryOut(w.request(trove.OpResizeFlavor)); op.State != trove.OperationDone {
			t.Errorf("the resize is %+v", op)
		}
	})
}

// TestSecretsStaySealed looks for the passwords and the token in the database's files and in the log.
func TestSecretsStaySealed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		var log bytes.Buffer
		m, err := taskmanager.New(taskmanager.Config{
			Store: w.store, Cloud: w.cloud, Guests: guestapi.NewClient(w.broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: sealer{},
			Clock: clock.System{}, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.fleet.Fail(guestapi.CmdPrepare, "no")
		w.request(trove.OpCreate)
		var boot bus.BootData
		for range 100 {
			if _, err := m.Engine().RunOne(t.Context()); err != nil {
				t.Fatal(err)
			}
			if data := w.cloud.BootData(instanceID); data != nil {
				if err := json.Unmarshal(data, &boot); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second) //nolint:forbidigo // of the bubble's time
		}
		if boot.Token == "" || boot.Instance != instanceID || boot.Engine != "fake" || len(boot.EnrolURLs) != 1 || boot.CABundle == "" {
			t.Fatalf("boot data %+v", boot)
		}
		stored := log.Bytes()
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) == 0 || len(stored) == 0 {
			t.Fatalf("files %v, %v; %d bytes of log", files, err, len(stored))
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, data...)
		}
		if !bytes.Contains(stored, []byte(instanceID)) {
			t.Fatal("not even the instance's id is found: this test looks in the wrong place")
		}
		for what, secret := range map[string]string{"password": password, "token": boot.Token} {
			if bytes.Contains(stored, []byte(secret)) {
				t.Errorf("the %s is stored or logged in clear", what)
			}
		}
	})
}

// TestResizeDoesNotMakeALostVolumeAnew: an empty volume in its place would look like a database that has lost its data.
func TestResizeDoesNotMakeALostVolumeAnew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := errors.Join(w.cloud.RemoveMachine(t.Context(), instanceID), w.cloud.RemoveVolume(t.Context(), instanceID)); err != nil {
			t.Fatal(err)
		}
		op := w.carryOut(w.request(trove.OpResizeVolume))
		if op.State == trove.OperationDone || !strings.Contains(op.Error, "data volume of the instance is gone") {
			t.Errorf("%+v", op)
		}
		if _, err := w.cloud.FindVolume(t.Context(), instanceID); !trove.IsNotFound(err) {
			t.Errorf("there is a volume again: %v", err)
		}
		if i, err := w.store.Instance(t.Context(), instanceID); err != nil || i.Fault == nil || i.Held[trove.QuotaVolumes] != 1 {
			t.Errorf("%+v %v", i, err)
		}
	})
}

// TestDeleteAsksNoGuestWithoutAMachine: a create that failed has removed the machine whose guest was heard of a moment ago.
func TestDeleteAsksNoGuestWithoutAMachine(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := w.cloud.RemoveMachine(t.Context(), instanceID); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if op := w.carryOut(w.request(trove.OpDelete)); op.State != trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		if took := time.Since(began); took >= 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
