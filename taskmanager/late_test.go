package taskmanager_test

import (
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

// overtaken cancels an operation while its command of this kind is on its way to the guest, where it arrives after all that the undo asks at first.
func overtaken(w **world, cmd guestapi.Command) func(int, string) disturbance {
	sent := false
	return func(_ int, call string) disturbance {
		if sent || call != "Start "+string(cmd) {
			return none
		}
		sent = true
		nth := 1
		if !guestapi.First(cmd) {
			nth = 2 // the guest is asked whether it knows the command
		}
		(*w).broker.DelayMessage(guestapi.CommandSubject(instanceID), nth, callLimit)
		return cancelAfter
	}
}

// TestACommandThatArrivesAfterItsUndoIsNotCarriedOut: an operation is cancelled while a command is on its way, and what the undo asks the guest overtakes it.
func TestACommandThatArrivesAfterItsUndoIsNotCarriedOut(t *testing.T) {
	dir := t.TempDir()
	for kind, cmd := range map[string]guestapi.Command{
		trove.OpStop: guestapi.CmdStop, trove.OpStopEngine: guestapi.CmdStop, trove.OpReboot: guestapi.CmdStop, trove.OpRebuild: guestapi.CmdStop,
		trove.OpMigrate: guestapi.CmdStop, trove.OpUpgrade: guestapi.CmdStop, trove.OpUpgradeRollback: guestapi.CmdStop,
		trove.OpResizeFlavor: guestapi.CmdConfigure, shrinkFlavor: guestapi.CmdConfigure,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var w *world
			out := run(t, dir, kind, overtaken(&w, cmd), func(is *world) { w = is }, nil)
			checkNotDone(t, kind, string(cmd), out, "cancelled")
			if !out.after.Guest.Running {
				t.Error("the database was stopped")
			}
		})
	}
}

// TestAnUndoThatIsDisturbedStillWithdrawsTheCommand: the guest may have answered without having been heard.
func TestAnUndoThatIsDisturbedStillWithdrawsTheCommand(t *testing.T) {
	dir := t.TempDir()
	for name, d := range map[string]disturbance{"killed before": killBefore, "killed after": killAfter, "the answer is lost": loseReply} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w *world
			cancel, hit := overtaken(&w, guestapi.CmdStop), false
			out := run(t, dir, trove.OpReboot, func(n int, call string) disturbance {
				if call == "Withdraw" && !hit {
					hit = true
					return d
				}
				return cancel(n, call)
			}, func(is *world) { w = is }, nil)
			checkNotDone(t, trove.OpReboot, name, out, "cancelled")
			if !hit || !out.after.Guest.Running {
				t.Errorf("withdrawn: %t, the database runs: %t", hit, out.after.Guest.Running)
			}
		})
	}
}

// TestAnUndoEndsWithoutAGuestThatNeverAnswers: whether it has the command cannot be known then, and the instance must not stay locked.
func TestAnUndoEndsWithoutAGuestThatNeverAnswers(t *testing.T) {
	for _, kind := range []string{trove.OpReboot, trove.OpStopEngine} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.disturb = func(_ int, call string) disturbance {
					if call != "Start "+string(guestapi.CmdStop) {
						return none
					}
					for n := range 1000 {
						w.broker.DropMessage(guestapi.CommandSubject(instanceID), n+1)
					}
					return cancelAfter
				}
				began := time.Now()
				op := w.carryOut(w.request(kind))
				if took := time.Since(began); op.State != trove.OperationUndone || took < 9*time.Minute || took > 11*time.Minute {
					t.Errorf("it is %s after %s", op.State, took)
				}
			})
		})
	}
}

// TestKeptDataIsNotRemovedBehindAWayBack: a confirmation was given up before its command arrived.
func TestKeptDataIsNotRemovedBehindAWayBack(t *testing.T) {
	dir := t.TempDir()
	var w *world
	dropped, arrived := false, false
	out := run(t, dir, trove.OpUpgradeConfirm, func(_ int, call string) disturbance {
		if call != "Start "+string(guestapi.CmdDropKept) {
			return none
		}
		dropped = true
		w.broker.DropMessage(guestapi.CommandSubject(instanceID), 2) // the first asks whether the guest knows the command
		return cancelAfter
	}, func(is *world) { w = is }, func(w *world) {
		ops, err := w.store.Operations(w.t.Context(), instanceID, 1)
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.disturb = func(_ int, call string) disturbance {
			if call == "Start "+string(guestapi.CmdStop) && !arrived { // the way back has found the kept data
				arrived = true
				_, _ = guestapi.NewClient(w.broker.Conn("late")).Start(w.t.Context(), instanceID, ops[0].ID+"/drop", guestapi.CmdDropKept, nil)
			}
			return none
		}
		w.mu.Unlock()
		if op := w.carryOut(w.request(trove.OpUpgradeRollback)); op.State != trove.OperationDone {
			t.Errorf("the way back: %+v", op)
		}
	})
	if s := out.restore; !dropped || !arrived || s.Guest.Data != guesttest.FirstData || !s.Guest.Running {
		t.Errorf("dropped %t, arrived %t, the guest is %+v", dropped, arrived, s.Guest)
	}
}

// TestAWayBackThatWasTakenBackDoesNotPutDataBackLater: it was cancelled before the command arrived.
func TestAWayBackThatWasTakenBackDoesNotPutDataBackLater(t *testing.T) {
	dir := t.TempDir()
	var w *world
	var id string
	arrived := false
	out := run(t, dir, trove.OpUpgradeRollback, func(_ int, call string) disturbance {
		if call == "Start "+string(guestapi.CmdRestoreData) {
			open, err := w.store.OpenOperation(w.t.Context(), instanceID)
			if err != nil {
				t.Error(err)
			}
			id = open.ID
			w.broker.DropMessage(guestapi.CommandSubject(instanceID), 2) // the first asks whether the guest knows the command
			return cancelAfter
		}
		if id != "" && call == "RemoveMachine" && !arrived { // the undo has found that nothing was put back
			arrived = true
			_, _ = guestapi.NewClient(w.broker.Conn("late")).Start(w.t.Context(), instanceID, id+"/restore", guestapi.CmdRestoreData, nil)
		}
		return none
	}, func(is *world) { w = is }, nil)
	checkNotDone(t, trove.OpUpgradeRollback, "late", out, "cancelled")
	if s := out.after; !arrived || s.Guest.Data != guesttest.UpgradedData || s.Instance.DatastoreVersionID != newVersion {
		t.Errorf("arrived %t, version %s, the guest is %+v", arrived, s.Instance.DatastoreVersionID, s.Guest)
	}
}
