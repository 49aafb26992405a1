package reconcilers_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

func TestMachineStoppedComesBack(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.cloud.CrashMachine(id, "the host restarted")
	w.clock.Add(time.Second)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine is %s", got)
	}
	if got := w.instance().Guest.Service; got != trove.ServiceShutdown {
		t.Errorf("the service status is %q until the guest says something", got)
	}
	if access, ports, ok := w.cloud.Rules(id); !ok || !slices.Equal(ports, []int{3306}) || !slices.Equal(access.AllowedCIDRs, []string{"10.9.0.0/16"}) {
		t.Errorf("network: %v %v %v", access, ports, ok)
	}
	if _, err := w.store.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("an operation is open: %v", err)
	}
	w.clock.Add(time.Second)
	w.heartbeat()
	i := w.instance()
	if got := i.OperatingStatus(w.clock.Now()); got != "HEALTHY" {
		t.Errorf("after the next heartbeat operating_status is %q", got)
	}
}

func TestMachineGoneIsMadeAgainWithAToken(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.VanishMachine(id)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Fatalf("the machine is %s", got)
	}
	boot := string(w.cloud.BootData(id))
	_, token, _ := strings.Cut(boot, `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	w.tx(func(ctx context.Context, tx store.Tx) error {
		owner, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(token)), "KEY", w.clock.Now())
		if err == nil && owner != id {
			t.Errorf("the token is for %s", owner)
		}
		return err
	})
}

// TestAMachineIsBroughtBackOntoHalfAnUpgrade: its database would be started on data that is not whole, whatever the task says.
func TestAMachineIsBroughtBackOntoHalfAnUpgrade(t *testing.T) {
	for of, want := range map[string]cloud.MachineState{versionID: "gone", "before": cloud.MachineRunning} {
		w := newWorld(t)
		w.make(id)
		w.tx(func(ctx context.Context, tx store.Tx) error {
			return tx.PutKeptData(ctx, trove.KeptData{InstanceID: id, DatastoreVersionID: of, ImageID: "image-1", Since: w.clock.Now()})
		})
		if err := w.cloud.RemoveMachine(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		w.once()
		if got := w.state(); got != want {
			t.Errorf("with data of %s kept the machine is %s and not %s", of, got, want)
		}
	}
}

func TestMachineLeftAlone(t *testing.T) {
	for name, change := range map[string]func(*world){
		"while an operation is open": func(w *world) { w.enqueue(trove.OpRestart) },
		"while it is resized":        func(w *world) { w.change(func(i *trove.Instance) { i.Task = trove.TaskResizing }) },
		"of a create that failed": func(w *world) {
			w.change(func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone })
		},
		"of an instance that was stopped": func(w *world) { w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown }) },
		"of a failed create with reset status": func(w *world) {
			w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerNone })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(id)
			w.cloud.CrashMachine(id, "ended")
			change(w)
			w.once()
			if got := w.state(); got != cloud.MachineStopped {
				t.Errorf("the machine is %s", got)
			}
		})
	}
}

// TestStoppedInstanceIsQuiet: nobody asks after the guest of an instance that was stopped, renews its credential, calls it an error or removes what it has.
func TestStoppedInstanceIsQuiet(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.tx(func(ctx context.Context, tx store.Tx) error {
		err := tx.PutEnrolmentToken(ctx, id, "hash", w.clock.Now().Add(time.Minute))
		if err == nil {
			_, err = tx.UseEnrolmentToken(ctx, "hash", "KEY", w.clock.Now())
		}
		return errors.Join(err, tx.SetGuestCredential(ctx, id, w.clock.Now().Add(time.Hour)))
	})
	w.heartbeat()
	if err := w.cloud.StopMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	left := w.left(id)
	for range 3 {
		w.once()
		w.clock.Add(40 * 24 * time.Hour)
	}
	i := w.instance()
	if i.Status(false) != "SHUTDOWN" || i.OperatingStatus(w.clock.Now()) != "SHUTDOWN" || i.Fault != nil {
		t.Errorf("status %s %s, fault %+v", i.Status(false), i.OperatingStatus(w.clock.Now()), i.Fault)
	}
	if w.state() != cloud.MachineStopped || w.guests.pings != 0 || len(w.guests.handed) != 0 {
		t.Errorf("the machine is %s, %d pings, %d credentials", w.state(), w.guests.pings, len(w.guests.handed))
	}
	if diff := cmp.Diff(left, w.left(id)); diff != "" {
		t.Errorf("in the cloud (-before +after):\n%s", diff)
	}
	if log := w.log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "silent") {
		t.Errorf("it was noted:\n%s", log)
	}
}

// TestStoppedInstanceThatRuns: a store that is older than the start does not cost anybody the database.
func TestStoppedInstanceThatRuns(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" || w.state() != cloud.MachineRunning {
		t.Errorf("status %s, machine %s", i.Status(false), w.state())
	}
}

func TestMachineFailedShowsError(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.FailMachine(id, "the disk is gone")
	w.once()
	i := w.instance()
	if i.Status(false) != "ERROR" || i.Fault == nil || !strings.Contains(i.Fault.Message, "the disk is gone") {
		t.Errorf("status %s, fault %+v", i.Status(false), i.Fault)
	}
	if err := w.cloud.RebootMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" {
		t.Errorf("when the machine runs again the status is %s", i.Status(false))
	}
}

// TestVolumeGoneIsNotMadeAnew: an empty volume would hide that the data is gone.
func TestVolumeGoneIsNotMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	if err := errors.Join(w.cloud.RemoveMachine(t.Context(), id), w.cloud.RemoveVolume(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	w.once()
	i := w.instance()
	if i.Status(false) != "ERROR" || i.Fault == nil || !strings.Contains(i.Fault.Message, "volume") || w.state() != "gone" {
		t.Errorf("status %s, fault %+v, machine %s", i.Status(false), i.Fault, w.state())
	}
	if _, err := w.cloud.FindVolume(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("the volume was made anew: %v", err)
	}
}

// TestMachineOfDeletedInstance deletes the row while the machine is brought back: nothing stays.
func TestMachineOfDeletedInstance(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.VanishMachine(id)
	w.cloud.SetBoot(func(string, []byte) {
		w.tx(func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, id, w.clock.Now()) })
	}, nil)
	w.once()
	if left := w.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestDeleteWithoutOperation(t *testing.T) {
	w := newWorld(t)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	w.once()
	open, err := w.store.OpenOperation(t.Context(), id)
	if err != nil || open.Kind != trove.OpDelete || open.ProjectID != "p1" {
		t.Fatalf("open operation %+v, %v", open, err)
	}
	if n := w.woken.Load(); n != 1 {
		t.Errorf("woken %d times", n)
	}
	w.once() // it is open now
	if again, err := w.store.OpenOperation(t.Context(), id); err != nil || again.ID != open.ID || again.Cancelled {
		t.Errorf("the second look left %+v, %v", again, err)
	}
}

func TestDeleteCancelsWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	op := w.enqueue(trove.OpRestart)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	if err := w.Deletes.ReconcileOne(t.Context(), id); !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	open, err := w.store.Operation(t.Context(), op)
	if err != nil || !open.Cancelled {
		t.Errorf("the restart is %+v, %v", open, err)
	}
}

func TestDeleteOnlyWhatShallBe(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	if err := w.Deletes.ReconcileOne(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := w.store.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("an operation is open: %v", err)
	}
	if err := w.Deletes.ReconcileOne(t.Context(), other); err != nil {
		t.Errorf("of an instance that is gone: %v", err)
	}
}

func TestStuckTaskIsFreed(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskResizing })
	w.once()
	if got := w.instance().Task; got != trove.TaskResizing {
		t.Errorf("at once the task is %s", got.Action())
	}
	w.clock.Add(2 * time.Minute)
	op := w.enqueue(trove.OpRestart)
	w.once()
	if got := w.instance().Task; got != trove.TaskResizing {
		t.Errorf("with an operation the task is %s", got.Action())
	}
	w.close(op)
	w.once()
	if i := w.instance(); i.Task != trove.TaskNone || i.Fault == nil || !strings.Contains(i.Fault.Message, "RESIZING") {
		t.Errorf("without one the task is %s, the fault %+v", i.Task.Action(), i.Fault)
	}
	w.change(func(i *trove.Instance) { i.Task = trove.TaskBuilding })
	w.clock.Add(2 * time.Minute)
	w.once()
	if i := w.instance(); i.Status(false) != "ERROR" {
		t.Errorf("a build without an operation is %s", i.Status(false))
	}
}

// TestAMachineWhoseFlavorHasLeftTheCatalogueIsBroughtBack: what is held of the quota says what it had.
func TestAMachineWhoseFlavorHasLeftTheCatalogueIsBroughtBack(t *testing.T) {
	for name, end := range map[string]func(*world){
		"it stopped":      func(w *world) { w.cloud.CrashMachine(id, "the host was restarted") },
		"it is not there": func(w *world) { w.cloud.VanishMachine(id) },
	} {
		w := newWorld(t)
		w.make(id)
		w.change(func(i *trove.Instance) {
			i.FlavorID, i.ServerStatus = "retired", trove.ServerActive
			i.Held = map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: flavor.RAM, trove.QuotaVolumes: 1}
		})
		end(w)
		for range 5 {
			w.clock.Add(time.Minute)
			w.once()
		}
		if m, err := w.cloud.FindMachine(t.Context(), id); err != nil || m.State != cloud.MachineRunning {
			t.Errorf("%s: the machine is %+v, %v", name, m, err)
		}
	}
}

// TestABuildThatNobodyGoesOnWithKeepsItsMachine: after a restore from a copy that is older than the end of the create it is somebody's database.
func TestABuildThatNobodyGoesOnWithKeepsItsMachine(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.change(func(i *trove.Instance) {
		i.Task, i.ServerStatus, i.ComputeID, i.VolumeID = trove.TaskBuilding, trove.ServerNone, "", ""
	})
	all := w.left(id)
	for range 10 {
		w.clock.Add(grace + time.Minute)
		w.once()
	}
	if i := w.instance(); i.Status(false) != "ERROR" {
		t.Errorf("the instance is %s", i.Status(false))
	}
	if diff := cmp.Diff(all, w.left(id)); diff != "" {
		t.Errorf("what it had (-want +got):\n%s", diff)
	}
	w.change(func(i *trove.Instance) { i.Task, i.Fault = trove.TaskNone, nil }) // a reset of its status
	w.clock.Add(time.Minute)
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" {
		t.Errorf("after a reset of its status the instance is %s", i.Status(false))
	}
}

// close ends an operation as a worker would.
func (w *world) close(op string) {
	w.t.Helper()
	due, err := w.store.DueOperations(w.t.Context(), w.clock.Now(), 10)
	if err != nil || len(due) != 1 || due[0].ID != op {
		w.t.Fatalf("due: %v, %v", due, err)
	}
	w.tx(func(ctx context.Context, tx store.Tx) error {
		row, err := tx.ClaimOperation(ctx, due[0], "me", w.clock.Now().Add(time.Minute))
		if err != nil {
			return err
		}
		return tx.CloseOperation(ctx, row, trove.OperationFailed, w.clock.Now())
	})
}

func TestLeftoversAreRemovedAfterTheGrace(t *testing.T) {
	for name, c := range map[string]struct {
		instance string
		arrange  func(*world)
		after    time.Duration // when it is gone; 0: never
	}{
		"of a living instance": {instance: id, arrange: func(*world) {}},
		"of a deleted instance": {instance: id, after: grace, arrange: func(w *world) {
			w.close(w.enqueue(trove.OpDelete))
			w.tx(func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, id, w.clock.Now()) })
		}},
		"of a create that failed": {instance: id, after: grace, arrange: func(w *world) {
			w.change(func(i *trove.Instance) {
				i.Task, i.ServerStatus, i.ComputeID, i.VolumeID = trove.TaskBuildErrorServer, trove.ServerNone, "", ""
			})
		}},
		"of a takeover that failed": {instance: id, arrange: func(w *world) {
			w.change(func(i *trove.Instance) {
				i.Task, i.ServerStatus, i.ComputeID, i.VolumeID = trove.TaskBuildErrorServer, trove.ServerNone, "the old server", "the volume"
			})
		}},
		"of a create that is open": {instance: id, arrange: func(w *world) {
			w.change(func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone })
			w.enqueue(trove.OpCreate)
		}},
		"of an instance that the store never knew": {instance: other, after: 24 * time.Hour, arrange: func(*world) {}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(c.instance)
			if _, err := w.cloud.EnsureName(t.Context(), c.instance, nil); err != nil {
				t.Fatal(err)
			}
			w.cloud.LeaveGroup(c.instance, cloud.Affinity)
			c.arrange(w)
			all := w.left(c.instance)
			w.once()
			w.clock.Add(c.after - time.Second)
			w.once()
			if diff := cmp.Diff(all, w.left(c.instance)); diff != "" {
				t.Fatalf("within the grace (-want +got):\n%s", diff)
			}
			w.clock.Add(time.Second)
			if c.after == 0 {
				w.clock.Add(100 * time.Hour)
			}
			w.once()
			if left := w.left(c.instance); (len(left) == 0) != (c.after > 0) {
				t.Errorf("after the grace there is %v", left)
			}
		})
	}
}

// TestNothingUnknownIsRemovedWhileARestoreIsNotFinished: the grace begins when it is.
func TestNothingUnknownIsRemovedWhileARestoreIsNotFinished(t *testing.T) {
	w := newWorld(t)
	w.held.Store(true)
	w.make(other)
	all := w.left(other)
	for range 3 {
		w.once()
		w.clock.Add(100 * time.Hour)
	}
	if told := strings.Count(w.log.String(), other); told != 1 {
		t.Errorf("the log tells of it %d times, want once:\n%s", told, w.log)
	}
	w.held.Store(false)
	w.once()
	w.clock.Add(23 * time.Hour)
	w.once()
	if diff := cmp.Diff(all, w.left(other)); diff != "" {
		t.Fatalf("within a day of the end of the restore (-want +got):\n%s", diff)
	}
	w.clock.Add(time.Hour)
	w.once()
	if left := w.left(other); len(left) > 0 {
		t.Errorf("a day after it there is %v", left)
	}
}

// TestLoopGoesOn looks at everything although one instance cannot be repaired, and deletes what comes into the queue without waiting for the interval.
func TestLoopGoesOn(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.CrashMachine(id, "ended")
	w.cloud.FailAlways("EnsureNetwork", errors.New("the switch is off"))
	w.once()
	if !strings.Contains(w.log.String(), "the switch is off") {
		t.Error("the failure was not logged")
	}
	w.cloud.FailAlways("EnsureNetwork", nil)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine is %s", got)
	}
}

func TestQueueBeginsDeletesAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	w.queue.Add(id)
	deadline := time.Now().Add(time.Minute)
	for {
		if open, err := w.store.OpenOperation(t.Context(), id); err == nil && open.Kind == trove.OpDelete {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no delete was begun")
		}
		if err := clock.Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
}
