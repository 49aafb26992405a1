package taskmanager_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// TestFailForGood lets each outside call fail once in a way that trying again cannot mend. What was made is removed, what was changed is changed back,
// the quota is true, and the fault says why.
func TestFailForGood(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range walked {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := undisturbed(t, dir, kind)
			failed := 0
			for at := range want.calls {
				if !chosen(at) {
					continue
				}
				got := run(t, dir, kind, func(n int, name string) disturbance {
					if n == at && name != "store.InTx" { // the store's errors are never for good
						return failForGood
					}
					return none
				}, nil, deleteAfter(kind))
				courtesy := len(got.calls) > at && got.calls[at] == "Status" && keepsData(kind) && got.op.State == trove.OperationDone
				if len(got.calls) <= at || got.calls[at] == "store.InTx" || courtesy || tolerated(kind, got.calls[at], at, got.calls) {
					checkDone(t, kind, got.after)
				} else {
					failed++
					checkNotDone(t, kind, fmt.Sprintf("%d %s", at, got.calls[at]), got, "failed for good")
				}
				checkDone(t, trove.OpDelete, got.restore)
			}
			if failed == 0 && !raceDetector && !testing.Short() {
				t.Error("no call failed")
			}
		})
	}
}

// keepsData says of which operations some calls for the status matter and others are only said for courtesy: which ones is seen from the end.
func keepsData(kind string) bool {
	return kind == trove.OpUpgrade || kind == trove.OpUpgradeRollback || kind == trove.OpUpgradeConfirm
}

// TestGuestFails lets the guest fail at each command.
func TestGuestFails(t *testing.T) {
	dir := t.TempDir()
	for kind, cmd := range map[string]guestapi.Command{
		trove.OpStart: guestapi.CmdConfigure, trove.OpCreate: guestapi.CmdPrepare, trove.OpRestart: guestapi.CmdRestart, trove.OpResizeFlavor: guestapi.CmdConfigure,
		shrinkFlavor: guestapi.CmdConfigure, trove.OpResizeVolume: guestapi.CmdGrow, trove.OpUpgradeAgent: guestapi.CmdUpgradeAgent,
		trove.OpStopEngine: guestapi.CmdStop, trove.OpUpgrade: guestapi.CmdKeepData,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			got := run(t, dir, kind, nil, func(w *world) { w.fleet.Fail(cmd, "disk on fire") }, nil)
			checkNotDone(t, kind, string(cmd), got, "disk on fire")
		})
	}
}

// TestCancel cancels each operation after each of its outside calls: it is done, or it is undone.
func TestCancel(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range walked {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := undisturbed(t, dir, kind)
			undone := 0
			for at, call := range want.calls {
				if at > 0 && !chosen(at) {
					continue
				}
				got := run(t, dir, kind, only(at, cancelAfter), nil, deleteAfter(kind))
				if got.op.State == trove.OperationDone {
					checkDone(t, kind, got.after)
				} else {
					undone++
					checkNotDone(t, kind, fmt.Sprintf("cancelled after %d %s", at, call), got, "cancelled")
				}
				checkDone(t, trove.OpDelete, got.restore)
			}
			if undone == 0 {
				t.Error("no cancel had an effect")
			}
		})
	}
}

// deleteAfter deletes the instance at the end of a run. After a failed delete it is the reconciler who begins the next.
func deleteAfter(kind string) func(*world) {
	return func(w *world) {
		if operationOf(kind) != trove.OpDelete {
			w.carryOut(w.request(trove.OpDelete))
			return
		}
		m := w.start()
		err := m.Reconcilers().Deletes.ReconcileOne(w.t.Context(), instanceID)
		m.stop()
		if err != nil {
			w.t.Fatal(err)
		}
		open, err := w.store.OpenOperation(w.t.Context(), instanceID)
		if trove.IsNotFound(err) {
			return // it was deleted
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.carryOut(open.ID)
	}
}

// checkNotDone checks the state after an operation that could not be done: as before, with a fault.
func checkNotDone(t *testing.T, kind, name string, out outcome, why string) {
	t.Helper()
	got := out.after
	if got.Operation != trove.OperationUndone && got.Operation != trove.OperationFailed {
		t.Errorf("%s: the operation is %s", name, got.Operation)
		return
	}
	i := got.Instance
	if kind == trove.OpUpgradeAgent || kind == trove.OpUpgradeConfirm { // an instance has no fault by its agent's, or by data that lies beside its own
		if i == nil || i.Fault != nil || i.Status(false) != "ACTIVE" || !strings.Contains(or(out.op.Error, "cancelled"), why) {
			t.Errorf("%s: the operation's end is %q, the instance %+v", name, out.op.Error, i)
		}
		return
	}
	if i == nil || i.Fault == nil || !strings.Contains(i.Fault.Message, why) || !strings.HasSuffix(strings.TrimSpace(i.Fault.Message), ".") && why != "disk on fire" && why != "cancelled" {
		t.Errorf("%s: the instance's fault does not say %q: %+v", name, why, i)
		return
	}
	switch kind {
	case trove.OpCreate:
		if len(got.Cloud) > 0 || i.Status(false) != "ERROR" || len(i.Held) > 0 {
			t.Errorf("%s: left over %v, status %s, held %v", name, got.Cloud, i.Status(false), i.Held)
		}
		want := map[string]int{trove.QuotaInstances: 0, trove.QuotaRAM: 0, trove.QuotaVolumes: 0, trove.QuotaBackups: 0}
		if diff := cmp.Diff(want, got.Quotas); diff != "" {
			t.Errorf("%s: quotas (-want +got):\n%s", name, diff)
		}
		return
	case trove.OpDelete, stoppedDelete:
		if i.Task != trove.TaskDeleting {
			t.Errorf("%s: the wish to delete is lost: %s", name, i.Task.Action())
		}
		return
	}
	checkBack(t, kind, name, out)
}

// checkBack compares with the state before, but for what an operation may leave on purpose.
func checkBack(t *testing.T, kind, name string, out outcome) {
	t.Helper()
	want, got := out.before, out.after
	got.Operation = want.Operation
	fault := *got.Instance
	fault.Fault = nil
	got.Instance = &fault
	got.Guest.Runs, want.Guest.Runs = nil, nil
	switch kind {
	case trove.OpRestart: // the guest's own heartbeat says how it is
		if got.Service != trove.ServiceUnknown {
			got.Service = want.Service
		}
		want.Service = got.Service
	case trove.OpRebuild: // the data may have been fitted to the image already
		want.Guest.Finished = got.Guest.Finished
	case trove.OpMigrate: // what has moved stays there
		want.Host = got.Host
	case trove.OpUpgradeRollback: // a machine that is made again sees no previous image; what was put back stays
		want.Previous = got.Previous
		if got.Instance.DatastoreVersionID == versionID {
			checkVersion(t, kind, got)
			return
		}
	case trove.OpStart: // the engine may have been up for a moment
		want.Guest.Running, want.Guest.Stopped = got.Guest.Running, got.Guest.Stopped
	case trove.OpResizeVolume, stoppedVolume: // what has grown stays grown, and is counted
		if got.VolumeGiB == 3 {
			grown := *want.Instance
			grown.VolumeSize, grown.Held = 3, fault.Held
			want.Instance, want.VolumeGiB, want.Quotas = &grown, 3, map[string]int{}
			maps.Copy(want.Quotas, out.before.Quotas)
			want.Quotas[trove.QuotaVolumes] = 3
			if fault.Held[trove.QuotaVolumes] != 3 {
				t.Errorf("%s: the volume has 3 GiB, and %v is held", name, fault.Held)
			}
			want.Guest.SizeGiB = got.Guest.SizeGiB
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: not as before (-before +after):\n%s", name, diff)
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
