package taskmanager_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// adopt asks for the create of an instance that was imported, as `trove manage adopt` does.
func (w *world) adopt() trove.Operation {
	w.t.Helper()
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: flavorSmall.RAM, trove.QuotaVolumes: 2}
		if err := tx.TakeQuota(ctx, project, held); err != nil {
			return err
		}
		return tx.InsertInstance(ctx, trove.Instance{
			ID: instanceID, ProjectID: project, Name: "db", Created: time.Now(), Updated: time.Now(), Task: trove.TaskBuilding, DatastoreVersionID: versionID,
			FlavorID: flavorSmall.ID, VolumeSize: 2, Access: openToAll, Held: held, ComputeID: "the old server", VolumeID: "the volume",
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.adoptAgain()
}

// adoptAgain asks for what has failed, or was taken back.
func (w *world) adoptAgain() trove.Operation {
	w.t.Helper()
	var id string
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		err := tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.Task, i.Fault = trove.TaskBuilding, nil
			return nil
		})
		if err != nil {
			return err
		}
		id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{
			Kind: trove.OpCreate, Target: instanceID, ProjectID: project, Input: trove.CreateInput{Flavor: flavorSmall, Adopt: true},
		})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.wake()
	return w.carryOut(id)
}

// foreign puts into the cloud what an adoption has made the instance's.
func (w *world) foreign() (volume, network string) {
	w.t.Helper()
	v, err := w.cloud.EnsureVolume(w.t.Context(), cloud.VolumeSpec{Instance: instanceID, Project: project, SizeGiB: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := w.cloud.EnsureNetwork(w.t.Context(), cloud.NetworkSpec{Instance: instanceID, Project: project, Access: openToAll, TCPPorts: []int{3306}})
	if err != nil {
		w.t.Fatal(err)
	}
	return v.ID, n.ID
}

func inEmptyWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		test(t, w)
	})
}

func TestAnAdoptedInstanceKeepsVolumeAndNetwork(t *testing.T) {
	inEmptyWorld(t, func(t *testing.T, w *world) {
		volume, network := w.foreign()
		if op := w.adopt(); op.State != trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil || i.Status(false) != "ACTIVE" || i.VolumeID != volume || i.ComputeID == "the old server" || i.Fault != nil {
			t.Errorf("the instance is %+v, %v", i, err)
		}
		if n, err := w.cloud.FindNetwork(t.Context(), instanceID); err != nil || n.ID != network {
			t.Errorf("the network is %+v, %v; want %s", n, err, network)
		}
		if v, ok := w.fleet.Volume(instanceID); !ok || v.Prepared == nil || !v.Prepared.Adopt {
			t.Errorf("the guest was told %+v", v.Prepared)
		}
	})
}

// TestAnAdoptionThatFailsRemovesTheMachineAlone: what comes from the other Trove is its way back.
func TestAnAdoptionThatFailsRemovesTheMachineAlone(t *testing.T) {
	inEmptyWorld(t, func(t *testing.T, w *world) {
		volume, network := w.foreign()
		w.fleet.Fail(guestapi.CmdPrepare, "the data are of a newer version")
		if op := w.adopt(); op.State == trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		if _, err := w.cloud.FindMachine(t.Context(), instanceID); !trove.IsNotFound(err) {
			t.Errorf("the machine: %v, want none", err)
		}
		if v, err := w.cloud.FindVolume(t.Context(), instanceID); err != nil || v.ID != volume {
			t.Errorf("the volume is %+v, %v; want %s", v, err, volume)
		}
		if n, err := w.cloud.FindNetwork(t.Context(), instanceID); err != nil || n.ID != network {
			t.Errorf("the network is %+v, %v; want %s", n, err, network)
		}
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil || i.Fault == nil || !strings.Contains(i.Fault.Message, "taken over") || i.VolumeID != "the volume" || i.ComputeID != "the old server" || i.Held[trove.QuotaVolumes] != 2 {
			t.Errorf("the instance is %+v, fault %+v, %v", i, i.Fault, err)
		}
	})
}

// TestNothingIsMadeInsteadOfWhatIsMissing: an empty database in the place of one with data would look like a loss.
func TestNothingIsMadeInsteadOfWhatIsMissing(t *testing.T) {
	inEmptyWorld(t, func(t *testing.T, w *world) {
		if op := w.adopt(); op.State == trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		if left := w.cloud.Leftovers(); len(left) > 0 {
			t.Errorf("made: %v", left)
		}
	})
}

// TestAGuestOfAnEarlierAdoptionIsNotThisOne: an instance that went back to the other Trove has had a guest here.
func TestAGuestOfAnEarlierAdoptionIsNotThisOne(t *testing.T) {
	inEmptyWorld(t, func(t *testing.T, w *world) {
		w.foreign()
		w.fleet.Fail(guestapi.CmdPrepare, "the data are of a newer version")
		if op := w.adopt(); op.State == trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		if i, err := w.store.Instance(t.Context(), instanceID); err != nil || i.Guest.SeenAt.IsZero() {
			t.Fatalf("the guest was seen %v, %v: this test proves nothing", i.Guest.SeenAt, err)
		}
		w.fleet.Mute(instanceID)
		if err := clock.Sleep(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if op := w.adoptAgain(); op.State == trove.OperationDone {
			t.Fatalf("%+v", op)
		}
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil || i.Fault == nil || !strings.Contains(i.Fault.Message, "its guest has not reported") {
			t.Errorf("the fault is %+v, %v", i.Fault, err)
		}
	})
}
