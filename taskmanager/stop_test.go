package taskmanager_test

import (
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
)

// stopped brings the world's instance to rest.
func (w *world) stopped() {
	w.t.Helper()
	if op := w.carryOut(w.request(trove.OpStop)); op.State != trove.OperationDone {
		w.t.Fatalf("stop: %+v", op)
	}
}

func (w *world) power() cloud.MachineState {
	w.t.Helper()
	m, err := w.cloud.FindMachine(w.t.Context(), instanceID)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.State
}

// TestStoppedStaysStopped: for a hundred days, with new control planes and after a restart of the host; then a start brings back what was there.
func TestStoppedStaysStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		before, _ := w.fleet.Volume(instanceID)
		w.stopped()
		if v, _ := w.fleet.Volume(instanceID); v.Running || !v.Stopped {
			t.Errorf("the engine was not stopped before the machine: %+v", v)
		}
		for _, pause := range []time.Duration{time.Minute, 100 * 24 * time.Hour} {
			_, stop := w.manage()
			time.Sleep(time.Minute) //nolint:forbidigo // of the bubble's time
			stop()
			time.Sleep(pause) //nolint:forbidigo // of the bubble's time
			w.cloud.CrashMachine(instanceID, "the host was restarted")
		}
		_, stop := w.manage()
		time.Sleep(time.Minute) //nolint:forbidigo // of the bubble's time
		stop()
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil || i.Status(false) != "SHUTDOWN" || i.OperatingStatus(time.Now()) != "SHUTDOWN" || i.Fault != nil || w.power() != cloud.MachineStopped {
			t.Fatalf("it is %s, machine %s, %v", i.Status(false), w.power(), err)
		}
		if op := w.carryOut(w.request(trove.OpStart)); op.State != trove.OperationDone {
			t.Fatalf("start: %+v", op)
		}
		after, _ := w.fleet.Volume(instanceID)
		if i, err = w.store.Instance(t.Context(), instanceID); err != nil || i.OperatingStatus(time.Now()) != "HEALTHY" || after.Key != before.Key {
			t.Errorf("after the start it is %s, %v", i.OperatingStatus(time.Now()), err)
		}
	})
}

// TestStartMakesAMachineThatIsGone: its guest comes back with its identity from the volume.
func TestStartMakesAMachineThatIsGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.stopped()
		w.cloud.VanishMachine(instanceID)
		if op := w.carryOut(w.request(trove.OpStart)); op.State != trove.OperationDone || w.power() != cloud.MachineRunning {
			t.Errorf("start: %+v", op)
		}
	})
}

// TestStartNeverMakesAVolume: an empty database in place of a lost one would look healthy.
func TestStartNeverMakesAVolume(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.stopped()
		w.cloud.VanishMachine(instanceID)
		if err := w.cloud.RemoveVolume(t.Context(), instanceID); err != nil {
			t.Fatal(err)
		}
		op := w.carryOut(w.request(trove.OpStart))
		if _, err := w.cloud.FindVolume(t.Context(), instanceID); op.State != trove.OperationUndone || !trove.IsNotFound(err) {
			t.Errorf("start: %+v, volume %v", op, err)
		}
	})
}

// TestStopWithoutItsGuest: a guest that is away does not keep its instance from being stopped, only a minute.
func TestStopWithoutItsGuest(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fleet.Halt(instanceID) // its machine runs on
		time.Sleep(time.Minute)  //nolint:forbidigo // of the bubble's time
		began := time.Now()
		w.stopped()
		if took := time.Since(began); took > 2*time.Minute || w.power() != cloud.MachineStopped {
			t.Errorf("it took %s, the machine is %s", took, w.power())
		}
		if op := w.carryOut(w.request(trove.OpStart)); op.State != trove.OperationDone {
			t.Errorf("start: %+v", op)
		}
	})
}

// TestStopOfAMachineThatEnded: there is nothing to ask.
func TestStopOfAMachineThatEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.CrashMachine(instanceID, "it ended")
		began := time.Now()
		w.stopped()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestResizedWhileStopped: the engine is started with the settings of the flavor that it has by then.
func TestResizedWhileStopped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.stopped()
		for _, kind := range []string{stoppedVolume, stoppedFlavor} {
			if op := w.carryOut(w.request(kind)); op.State != trove.OperationDone {
				t.Fatalf("%s: %+v", kind, op)
			}
		}
		if op := w.carryOut(w.request(trove.OpStart)); op.State != trove.OperationDone {
			t.Fatalf("start: %+v", op)
		}
		v, _ := w.fleet.Volume(instanceID)
		m, err := w.cloud.FindMachine(t.Context(), instanceID)
		if v.Settings.RAM != flavorLarge.RAM || v.Settings.VCPUs != flavorLarge.VCPUs || err != nil || m.FlavorID != flavorLarge.ID {
			t.Errorf("started with %+v on %+v, %v", v.Settings, m, err)
		}
	})
}

// TestFailedStopLeavesTheEngineAlone: an engine that was not told to stop is not restarted by the undo.
func TestFailedStopLeavesTheEngineAlone(t *testing.T) {
	dir := t.TempDir()
	out := run(t, dir, trove.OpStop, only(1, failForGood), nil, nil)
	if out.calls[1] != "FindMachine" {
		t.Fatalf("the calls are %v", out.calls)
	}
	if out.op.State != trove.OperationUndone || out.after.Guest.Runs["engine-undo"] != 0 || !out.after.Guest.Running {
		t.Errorf("the operation is %s, commands %v", out.op.State, out.after.Guest.Runs)
	}
}

// TestAnUndoDoesNotWaitForeverForAMachine: one that stays pending, as on a host that is down, leaves the instance locked otherwise.
func TestAnUndoDoesNotWaitForeverForAMachine(t *testing.T) {
	for name, c := range map[string]struct {
		kind, call string // from which on machines stay pending
		what       disturbance
		task       trove.Task
	}{
		"stop":     {trove.OpStop, "StopMachine", cancelAfter, trove.TaskNone},
		"upgrade":  {trove.OpUpgrade, "Start " + string(guestapi.CmdUpgrade), failForGood, trove.TaskUpgradingError},
		"rollback": {trove.OpUpgradeRollback, "Start " + string(guestapi.CmdRestoreData), failForGood, trove.TaskNone},
		"reboot":   {trove.OpReboot, "RebootMachine", cancelAfter, trove.TaskNone},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if beginsUpgraded(c.kind) {
					w.carryOut(w.request(trove.OpUpgrade))
				}
				w.disturb = func(_ int, call string) disturbance {
					if call != c.call {
						return none
					}
					w.cloud.SetLooks(1 << 30)
					return c.what
				}
				began := time.Now()
				op := w.carryOut(w.request(c.kind))
				if s := w.look(op); op.State != trove.OperationUndone || s.Power != cloud.MachinePending || s.Instance.Task != c.task {
					t.Errorf("after %s it is %s, the machine %s, the task %s", time.Since(began), op.State, s.Power, s.Instance.Task.Action())
				}
			})
		})
	}
}

// TestStopGoesOnWithoutTheEnginesConsent: an agent that cannot stop the engine, with a full volume perhaps, does not keep the machine up.
func TestStopGoesOnWithoutTheEnginesConsent(t *testing.T) {
	dir := t.TempDir()
	out := run(t, dir, trove.OpStop, nil, func(w *world) { w.fleet.Fail(guestapi.CmdStop, "disk on fire") }, nil)
	checkDone(t, trove.OpStop, out.after)
}
