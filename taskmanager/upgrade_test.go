package taskmanager_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

// checkVersion checks of which version everything is after an operation that was done: the row, the machine, the data; and what is kept.
func checkVersion(t *testing.T, kind string, s state) {
	t.Helper()
	version, image, data, aside, previous := versionID, "image-1", guesttest.FirstData, "", ""
	kept := trove.KeptData{}
	switch kind {
	case trove.OpUpgrade:
		version, image, data, aside, previous = newVersion, "image-2", guesttest.UpgradedData, guesttest.FirstData, "image-1"
		kept = trove.KeptData{InstanceID: instanceID, DatastoreVersionID: versionID, ImageID: "image-1", Bytes: 1 << 20}
	case trove.OpUpgradeConfirm:
		version, image, data, previous = newVersion, "image-2", guesttest.UpgradedData, "image-1"
	}
	got := []any{s.Instance.DatastoreVersionID, s.Image, s.Guest.Data, s.Guest.Kept, s.Previous, s.Kept}
	if diff := cmp.Diff([]any{version, image, data, aside, previous, kept}, got); diff != "" {
		t.Errorf("after %s version, image, data, data that is kept, previous image, row (-want +got):\n%s", kind, diff)
	}
	if finished := s.Guest.Finished; (finished > 0) != (kind == trove.OpUpgrade || kind == trove.OpRebuild || kind == trove.OpUpgradeConfirm) {
		t.Errorf("after %s an upgrade was finished %d times", kind, finished)
	}
}

// TestAnUpgradeThatTheCheckRefusesChangesNothing: machine and database are not touched, and the fault says why.
func TestAnUpgradeThatTheCheckRefusesChangesNothing(t *testing.T) {
	out := run(t, t.TempDir(), trove.OpUpgrade, nil, func(w *world) {
		w.fleet.Find(guestapi.Finding{Sentence: "This is worth knowing."}, guestapi.Finding{Blocks: true, Sentence: "Table a.b is damaged."})
	}, nil)
	checkNotDone(t, trove.OpUpgrade, "refused", out, "Table a.b is damaged.")
	f := out.after.Instance.Fault
	if f == nil || !strings.Contains(f.Message, "refused and nothing was changed") || strings.Contains(f.Message, "worth knowing") {
		t.Errorf("the fault is %+v", f)
	}
	for id := range out.after.Guest.Runs {
		if id == "engine" || id == "keep" {
			t.Errorf("the guest was given the command of step %s", id)
		}
	}
}

// TestAnUpgradeThatFailsInTheGuestIsTakenBack: the old version runs with its data again.
func TestAnUpgradeThatFailsInTheGuestIsTakenBack(t *testing.T) {
	for _, cmd := range []guestapi.Command{guestapi.CmdKeepData, guestapi.CmdUpgrade} {
		out := run(t, t.TempDir(), trove.OpUpgrade, nil, func(w *world) { w.fleet.Fail(cmd, "disk on fire") }, nil)
		checkNotDone(t, trove.OpUpgrade, string(cmd), out, "disk on fire")
		if f := out.after.Instance.Fault; f == nil || !strings.Contains(f.Message, "taken back") {
			t.Errorf("%s: the fault is %+v", cmd, f)
		}
	}
}

// TestDataThatCannotBePutBackIsNotStartedUpon: the instance is in error, the copy is known, and the way back is open.
func TestDataThatCannotBePutBackIsNotStartedUpon(t *testing.T) {
	out := run(t, t.TempDir(), trove.OpUpgrade, nil, func(w *world) {
		w.fleet.Fail(guestapi.CmdUpgrade, "disk on fire")
		w.fleet.Fail(guestapi.CmdRestoreData, "disk on fire")
	}, func(w *world) {
		w.fleet.Fail(guestapi.CmdUpgrade, "")
		w.fleet.Fail(guestapi.CmdRestoreData, "")
		if op := w.carryOut(w.request(trove.OpUpgradeRollback)); op.State != trove.OperationDone {
			t.Errorf("the way back: %+v", op)
		}
	})
	i := out.after.Instance
	if i == nil || i.Status(false) != "ERROR" || i.Fault == nil || out.after.Guest.Running || out.after.Kept.DatastoreVersionID != versionID {
		t.Errorf("after a restore that failed: %+v, kept %+v", i, out.after.Kept)
	}
	if i := out.restore.Instance; i == nil || i.Status(false) != "ACTIVE" || i.DatastoreVersionID != versionID || !out.restore.Guest.Running {
		t.Errorf("after the way back: %+v", i)
	}
}

// TestAWayBackThatFailsAfterALostUpgradeLeavesItLost: the copy stays the only whole data, so the database is not started and the mark stays.
func TestAWayBackThatFailsAfterALostUpgradeLeavesItLost(t *testing.T) {
	for _, call := range []string{"FindMachine", "EnsureMachine"} {
		out := run(t, t.TempDir(), trove.OpUpgrade, nil, func(w *world) {
			w.fleet.Fail(guestapi.CmdUpgrade, "disk on fire")
			w.fleet.Fail(guestapi.CmdRestoreData, "disk on fire")
		}, func(w *world) {
			w.fleet.Fail(guestapi.CmdUpgrade, "")
			w.fleet.Fail(guestapi.CmdRestoreData, "")
			failed := false
			w.mu.Lock()
			w.disturb = func(_ int, name string) disturbance {
				if name != call || failed {
					return none
				}
				failed = true
				return failForGood
			}
			w.mu.Unlock()
			if op := w.carryOut(w.request(trove.OpUpgradeRollback)); op.State != trove.OperationUndone {
				t.Errorf("%s: the way back: %+v", call, op)
			}
		})
		i := out.restore.Instance
		if i == nil || i.Task != trove.TaskUpgradingError || i.Fault == nil || out.restore.Guest.Running || out.restore.Kept.DatastoreVersionID != versionID {
			t.Errorf("%s: after a way back that failed: %+v, kept %+v, the engine runs: %t", call, i, out.restore.Kept, out.restore.Guest.Running)
		}
	}
}

// TestAWayBackAfterAConfirmationThatWasCutOffIsRefused: the guest had begun to drop the copy, and nothing may be started in the old version on the new data.
func TestAWayBackAfterAConfirmationThatWasCutOffIsRefused(t *testing.T) {
	out := run(t, t.TempDir(), trove.OpUpgradeConfirm, func(_ int, name string) disturbance {
		if name == "Start "+string(guestapi.CmdDropKept) {
			return cancelAfter
		}
		return none
	}, nil, func(w *world) {
		op := w.carryOut(w.request(trove.OpUpgradeRollback))
		if op.State != trove.OperationUndone || !strings.Contains(op.Error, "upgrade_confirm") {
			t.Errorf("the way back: %+v", op)
		}
	})
	if s := out.after; out.op.State == trove.OperationDone || s.Guest.Kept != "" {
		t.Fatalf("the confirmation is %s, %q is kept: this tests nothing", out.op.State, s.Guest.Kept)
	}
	s := out.restore
	if s.Instance.DatastoreVersionID != newVersion || s.Image != "image-2" || s.Guest.Data != guesttest.UpgradedData || !s.Guest.Running {
		t.Errorf("after the way back: %+v", s)
	}
}

// TestAGuestThatIsLongAtPuttingTheDataBackIsWaitedFor: the command stands behind a copy that is still being made, and the guest says so. One that falls silent meanwhile
// is not waited for as long.
func TestAGuestThatIsLongAtPuttingTheDataBackIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		step string // when the guest has its command the operation is cancelled
		dies bool
		task trove.Task
		data string
	}{
		"upgrade":                      {trove.OpUpgrade, "keep", false, trove.TaskNone, guesttest.FirstData},
		"upgrade, and the guest dies":  {trove.OpUpgrade, "keep", true, trove.TaskUpgradingError, guesttest.FirstData},
		"way back":                     {trove.OpUpgradeRollback, "restore", false, trove.TaskNone, guesttest.FirstData},
		"way back, and the guest dies": {trove.OpUpgradeRollback, "restore", true, trove.TaskUpgradingError, guesttest.UpgradedData},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if beginsUpgraded(c.kind) {
					w.carryOut(w.request(trove.OpUpgrade))
				}
				w.fleet.Slow(guestapi.CmdRestoreData, 25*time.Minute)
				id := w.request(c.kind)
				cancelled := false
				w.disturb = func(_ int, _ string) disturbance {
					if v, _ := w.fleet.Volume(instanceID); cancelled || v.Runs[id+"/"+c.step] == 0 {
						return none
					}
					cancelled = true
					if c.dies {
						time.AfterFunc(12*time.Minute, func() { w.fleet.Halt(instanceID) })
					}
					return cancelAfter
				}
				began := time.Now()
				op := w.carryOut(id)
				took := time.Since(began)
				s := w.look(op)
				if op.State != trove.OperationUndone || s.Instance.Task != c.task || s.Guest.Data != c.data {
					t.Errorf("after %s it is %s, the task %s, the fault %+v, the guest %+v", took, op.State, s.Instance.Task.Action(), s.Instance.Fault, s.Guest)
				}
				if c.dies && (took < 20*time.Minute || took > 24*time.Minute) {
					t.Errorf("it took %s", took)
				}
				time.Sleep(10 * time.Minute) //nolint:forbidigo // of the bubble's time: the guest ends
			})
		})
	}
}

// TestTheDatabaseGetsACertificateAfterItsDataOfBeforeCameBack: the one that it shows then is of that time too, and may end long before the one that it got since.
func TestTheDatabaseGetsACertificateAfterItsDataOfBeforeCameBack(t *testing.T) {
	for name, carryOut := range map[string]func(*world) (trove.Operation, trove.OperationState){
		"way back": func(w *world) (trove.Operation, trove.OperationState) {
			return w.carryOut(w.request(trove.OpUpgradeRollback)), trove.OperationDone
		},
		"upgrade that fails": func(w *world) (trove.Operation, trove.OperationState) {
			w.fleet.Fail(guestapi.CmdUpgrade, "disk on fire")
			return w.carryOut(w.request(trove.OpUpgrade)), trove.OperationUndone
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if name == "way back" {
					w.carryOut(w.request(trove.OpUpgrade))
				}
				all, err := w.store.Authorities(t.Context())
				if err != nil || len(all) == 0 {
					t.Fatal(all, err)
				}
				err = w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
					return tx.PutCertificate(ctx, store.Certificate{InstanceID: instanceID, AuthorityID: all[0].ID, Ends: time.Now().Add(24 * time.Hour)})
				})
				if err != nil {
					t.Fatal(err)
				}
				due := func() int {
					ids, err := w.store.DueCertificates(t.Context(), all[0].ID, time.Now(), time.Now(), 10)
					if err != nil {
						t.Fatal(err)
					}
					return len(ids)
				}
				if due() != 0 {
					t.Fatal("a certificate is due before: this tests nothing")
				}
				if op, want := carryOut(w); op.State != want {
					t.Fatalf("it is %s: %s", op.State, op.Error)
				}
				if due() != 1 {
					t.Error("no certificate is due")
				}
			})
		})
	}
}

// failing lets the n-th call of a name fail for good, and the first call of another.
func (w *world) failing(name string, n int, other string) {
	seen := map[string]int{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disturb = func(_ int, call string) disturbance {
		if seen[call]++; call == name && seen[call] == n || call == other && seen[call] == 1 {
			return failForGood
		}
		return none
	}
}

// TestAMachineThatKeepsTheNewImageIsNotGivenTheOldData: where a cloud exchanges images in place and does not take the old one back, the new version would be
// started on the old data without an upgrade.
func TestAMachineThatKeepsTheNewImageIsNotGivenTheOldData(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.inPlace = true
		w.fleet.Fail(guestapi.CmdUpgrade, "disk on fire")
		w.failing("RebuildMachine", 2, "")
		op := w.carryOut(w.request(trove.OpUpgrade))
		w.failing("", 0, "")
		s := w.look(op)
		if op.State != trove.OperationUndone || s.Image != "image-2" {
			t.Fatalf("the upgrade is %s, the machine has %s: this tests nothing", op.State, s.Image)
		}
		if i := s.Instance; i.Task != trove.TaskUpgradingError || s.Guest.Kept == "" || s.Guest.Running || s.Kept.DatastoreVersionID != versionID {
			t.Errorf("after the upgrade: %+v, the guest %+v", i, s.Guest)
		}
		w.fleet.Fail(guestapi.CmdUpgrade, "")
		s = w.look(w.carryOut(w.request(trove.OpUpgradeRollback)))
		if i := s.Instance; i.Task != trove.TaskNone || s.Image != "image-1" || s.Guest.Data != guesttest.FirstData || !s.Guest.Running || s.Guest.Kept != "" {
			t.Errorf("after the way back: %+v, the guest %+v on %s", i, s.Guest, s.Image)
		}
	})
}

// TestAMachineThatKeepsTheOldImageIsNotStartedOnTheNewData: the mirror image, on the way back, and after another one that fails at once.
func TestAMachineThatKeepsTheOldImageIsNotStartedOnTheNewData(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.inPlace = true
		if op := w.carryOut(w.request(trove.OpUpgrade)); op.State != trove.OperationDone {
			t.Fatalf("the upgrade: %+v", op)
		}
		check := func(when string, s state) {
			t.Helper()
			if s.Operation != trove.OperationUndone || s.Image != "image-1" || s.Guest.Data != guesttest.UpgradedData {
				t.Fatalf("%s: the way back is %s, the machine has %s, the data is %s: this tests nothing", when, s.Operation, s.Image, s.Guest.Data)
			}
			if i := s.Instance; i.Task != trove.TaskUpgradingError || i.DatastoreVersionID != newVersion || s.Guest.Running || s.Guest.Kept == "" || s.Kept.ImageID == "" {
				t.Errorf("%s: %+v, the guest %+v, kept %+v", when, i, s.Guest, s.Kept)
			}
		}
		restore := "Start " + string(guestapi.CmdRestoreData)
		w.failing("RebuildMachine", 2, restore)
		check("first", w.look(w.carryOut(w.request(trove.OpUpgradeRollback))))
		w.failing("RemoveMachine", 1, restore)
		check("again", w.look(w.carryOut(w.request(trove.OpUpgradeRollback))))
		w.failing("FindMachine", 1, "")
		check("at its beginning", w.look(w.carryOut(w.request(trove.OpUpgradeRollback))))
		w.failing("", 0, "")
		s := w.look(w.carryOut(w.request(trove.OpUpgradeRollback)))
		if i := s.Instance; i.Task != trove.TaskNone || i.DatastoreVersionID != versionID || s.Image != "image-1" || s.Guest.Data != guesttest.FirstData || !s.Guest.Running {
			t.Errorf("after the last: %+v, the guest %+v on %s", i, s.Guest, s.Image)
		}
	})
}

// TestOverridesThatTheNewVersionDoesNotHaveRefuseAnUpgrade.
func TestOverridesThatTheNewVersionDoesNotHaveRefuseAnUpgrade(t *testing.T) {
	out := run(t, t.TempDir(), trove.OpUpgrade, nil, func(w *world) {
		w.setGroup(`{"query_cache_size":5}`)
		w.attachGroup()
		err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.PutParameter(ctx, newVersion, trove.Parameter{Name: "max_connections", Type: trove.ParameterInteger})
		})
		if err != nil {
			t.Fatal(err)
		}
	}, nil)
	f := out.after.Instance.Fault
	if out.op.State == trove.OperationDone || f == nil || !strings.Contains(f.Message, "does not fit version 11.8") || !strings.Contains(f.Message, "query_cache_size") {
		t.Errorf("the operation is %s, the fault %+v", out.op.State, f)
	}
	if !out.after.Guest.Running || out.after.Image != "image-1" {
		t.Errorf("something was changed: %+v", out.after)
	}
}
