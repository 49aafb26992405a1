package taskmanager_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

// TestEngineThatDoesNotComeUp: the machine is back, the engine is down, the fault says why, and a restart is all that is needed when the cause is gone.
func TestEngineThatDoesNotComeUp(t *testing.T) {
	for _, kind := range machineKinds {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.fleet.Fail(guestapi.CmdConfigure, "disk on fire")
				if op := w.carryOut(w.request(kind)); op.State != trove.OperationUndone {
					t.Errorf("it ended %s", op.State)
				}
				i, err := w.store.Instance(t.Context(), instanceID)
				if err != nil || i.Fault == nil || !strings.Contains(i.Fault.Message, "disk on fire") || i.Task != trove.TaskNone || w.power() != cloud.MachineRunning {
					t.Errorf("%+v, %v, machine %s", i, err, w.power())
				}
				w.fleet.Fail(guestapi.CmdConfigure, "")
				if op := w.carryOut(w.request(trove.OpRestart)); op.State != trove.OperationDone {
					t.Errorf("restart: %+v", op)
				}
				if v, _ := w.fleet.Volume(instanceID); !v.Running {
					t.Error("the engine is down")
				}
			})
		})
	}
}

// TestStartThatNobodyAskedForHidesWhyItWasNeeded is about the fault of an operation that has left the database stopped.
func TestStartThatNobodyAskedForHidesWhyItWasNeeded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		fault := func() string {
			t.Helper()
			i, err := w.store.Instance(t.Context(), instanceID)
			if err != nil || i.Task != trove.TaskNone {
				t.Fatalf("%+v, %v", i, err)
			}
			if i.Fault == nil {
				return ""
			}
			return i.Fault.Message
		}
		w.fleet.Fail(guestapi.CmdConfigure, "disk on fire")
		w.carryOut(w.request(trove.OpReboot))
		why := fault()
		if op := w.carryOut(w.request(leftStopped)); op.State != trove.OperationDone || why == "" || fault() != why {
			t.Errorf("the start ended %s, the fault was %q and is %q", op.State, why, fault())
		}
		if v, _ := w.fleet.Volume(instanceID); !v.Running {
			t.Error("the engine is down")
		}
		w.fleet.Fail(guestapi.CmdRestart, "still on fire")
		w.carryOut(w.request(leftStopped))
		if f := fault(); !strings.HasPrefix(f, "The database was left stopped") || !strings.Contains(f, "restart the instance") || !strings.HasSuffix(f, "still on fire") {
			t.Errorf("the fault is %q", f)
		}
		w.fleet.Fail(guestapi.CmdRestart, "")
		w.carryOut(w.request(leftStopped))
		if f := fault(); f != "" {
			t.Errorf("after a start that went well the fault is %q", f)
		}
	})
}

// TestRebootOfAGuestThatIsAway: it is what a reboot is for. It waits a minute for the guest and not longer.
func TestRebootOfAGuestThatIsAway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		w.fleet.Halt(instanceID) // its machine runs on
		time.Sleep(time.Minute)  //nolint:forbidigo // of the bubble's time
		began := time.Now()
		op := w.carryOut(w.request(trove.OpReboot))
		after, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil || op.State != trove.OperationDone || after.BootID == before.BootID || time.Since(began) > 2*time.Minute {
			t.Errorf("%+v, %v after %s", op, err, time.Since(began))
		}
	})
}

// TestRebootMakesAMachineThatIsGone: its guest comes back with its identity from the volume.
func TestRebootMakesAMachineThatIsGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.VanishMachine(instanceID)
		if op := w.carryOut(w.request(trove.OpReboot)); op.State != trove.OperationDone || w.power() != cloud.MachineRunning {
			t.Errorf("reboot: %+v", op)
		}
	})
}

// TestRebuildKeepsTheVolume: the machine is another one, the guest and its data are the same.
func TestRebuildKeepsTheVolume(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before, _ := w.fleet.Volume(instanceID)
		was, err := w.store.Instance(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		if op := w.carryOut(w.request(trove.OpRebuild)); op.State != trove.OperationDone {
			t.Fatalf("rebuild: %+v", op)
		}
		after, _ := w.fleet.Volume(instanceID)
		is, err := w.store.Instance(t.Context(), instanceID)
		if err != nil || after.Key != before.Key || is.ComputeID == was.ComputeID || is.VolumeID != was.VolumeID || !after.Running {
			t.Errorf("before %+v, after %+v, %v", was, is, err)
		}
	})
}

// TestRebuildNeedsItsVolume: nothing is taken away when there is no volume to come back to.
func TestRebuildNeedsItsVolume(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.VanishVolume(instanceID)
		before, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		op := w.carryOut(w.request(trove.OpRebuild))
		after, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil || op.State != trove.OperationUndone || after.ID != before.ID || !strings.Contains(op.Error, "volume") {
			t.Errorf("%+v, machine %+v, %v", op, after, err)
		}
	})
}

// TestARebootDoesNotWaitForANetworkThatCannotBeAskedFor: the machine may be in trouble for the same reason.
func TestARebootDoesNotWaitForANetworkThatCannotBeAskedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		w.disturb = func(_ int, call string) disturbance {
			if call == "EnsureNetwork" {
				return failTemporarily
			}
			return none
		}
		began := time.Now()
		op := w.carryOut(w.request(trove.OpReboot))
		after, err := w.cloud.FindMachine(t.Context(), instanceID)
		if err != nil || op.State != trove.OperationDone || after.BootID == before.BootID || time.Since(began) > 2*time.Minute {
			t.Errorf("after %s: %+v, %v", time.Since(began), op, err)
		}
	})
}

// TestTheAddressesOfARebootReplaceThoseOfBefore: nothing of an address that the instance had is mixed into one that it has, and the certificate that names the former goes.
func TestTheAddressesOfARebootReplaceThoseOfBefore(t *testing.T) {
	for _, kind := range []string{trove.OpReboot, trove.OpRebuild, trove.OpUpdateAccess} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				made, err := w.store.Instance(t.Context(), instanceID)
				if err != nil {
					t.Fatal(err)
				}
				err = w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					certificate := store.Certificate{InstanceID: instanceID, AuthorityID: "a", Ends: time.Now().Add(time.Hour)}
					return errors.Join(tx.PutCertificate(ctx, certificate), tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
						i.Addresses = []trove.Address{{Address: "192.0.2.1", Type: "public", Port: 40001}, {Address: "192.0.2.2", Type: "public", Port: 40002}}
						return nil
					}))
				})
				if err != nil {
					t.Fatal(err)
				}
				if op := w.carryOut(w.request(kind)); op.State != trove.OperationDone {
					t.Fatalf("%+v", op)
				}
				i, err := w.store.Instance(t.Context(), instanceID)
				if err != nil || !slices.Equal(i.Addresses, made.Addresses) {
					t.Errorf("the instance has %+v, not %+v, %v", i.Addresses, made.Addresses, err)
				}
				due, err := w.store.DueCertificates(t.Context(), "a", time.Now(), time.Now(), 1)
				if err != nil || !slices.Equal(due, []string{instanceID}) {
					t.Errorf("%v need another certificate, %v", due, err)
				}
			})
		})
	}
}
