package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// request does what the API does in one transaction: it changes the row and enqueues the operation.
func (w *world) request(kind string) string {
	w.t.Helper()
	var id string
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		input, err := w.accept(ctx, tx, kind)
		if err != nil {
			return err
		}
		id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{
			Kind: operationOf(kind), Target: instanceID, ProjectID: project, RequestID: "req-1", Input: input,
		})
		return err
	})
	if err != nil {
		w.t.Fatalf("request %s: %v", kind, err)
	}
	w.wake()
	return id
}

func (w *world) accept(ctx context.Context, tx store.Tx, kind string) (any, error) {
	change := func(task trove.Task, take map[string]int) error {
		if err := tx.TakeQuota(ctx, project, take); err != nil {
			return err
		}
		return tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.Task = task
			for resource, n := range take {
				i.Held[resource] += n
			}
			return nil
		})
	}
	switch kind {
	case trove.OpCreate:
		held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: w.flavor.RAM, trove.QuotaVolumes: 1}
		secrets, err := json.Marshal(trove.CreateSecrets{
			Users: []trove.CreateUser{{Name: "u1", Host: "%", Password: password, Databases: []string{"d1"}}}, RootPassword: password,
		})
		sealed, _ := sealer{}.Seal(ctx, trove.SecretPurpose(instanceID), trove.Secret(secrets))
		return trove.CreateInput{Flavor: w.flavor, Databases: []trove.Database{{Name: "d1"}}, Sealed: sealed}, errors.Join(err,
			tx.TakeQuota(ctx, project, held),
			tx.InsertInstance(ctx, trove.Instance{
				ID: instanceID, ProjectID: project, Name: "db", Created: time.Now(), Updated: time.Now(), Task: trove.TaskBuilding,
				DatastoreVersionID: versionID, FlavorID: w.flavor.ID, VolumeSize: 1, Access: openToAll, ServerID: 7, Held: held,
				Locality: "anti-affinity",
			}))
	case trove.OpDelete, stoppedDelete:
		return nil, change(trove.TaskDeleting, nil)
	case trove.OpRestart, trove.OpStop, trove.OpStart:
		return nil, change(trove.TaskRebooting, nil)
	case leftStopped:
		return trove.RestartInput{LeftStopped: true}, change(trove.TaskRebooting, nil)
	case trove.OpReboot:
		return nil, errors.Join(change(trove.TaskRebooting, nil), tx.SetServiceStatus(ctx, instanceID, trove.ServiceRestarting, time.Now()))
	case trove.OpRebuild:
		return nil, change(trove.TaskBuilding, nil)
	case trove.OpStopEngine:
		return nil, change(trove.TaskUpdating, nil)
	case trove.OpUpgrade:
		return trove.UpgradeInput{Old: versionID, New: newVersion}, change(trove.TaskUpgrading, nil)
	case trove.OpUpgradeRollback:
		i, err := tx.Instance(ctx, instanceID)
		return trove.RollbackInput{Failed: i.Task == trove.TaskUpgradingError}, errors.Join(err, change(trove.TaskUpgrading, nil))
	case trove.OpUpgradeConfirm:
		return nil, nil
	case trove.OpMigrate:
		return trove.MigrateInput{}, change(trove.TaskMigrating, nil)
	case trove.OpResizeVolume, stoppedVolume:
		return trove.ResizeVolumeInput{Old: 1, New: 3}, change(trove.TaskResizing, map[string]int{trove.QuotaVolumes: 2})
	case trove.OpUpgradeAgent:
		return trove.UpgradeAgentInput{}, nil
	case trove.OpUpdateAccess:
		return trove.UpdateAccessInput{Old: openToAll, New: openToOne}, change(trove.TaskUpdating, nil)
	case trove.OpResizeFlavor, stoppedFlavor:
		return trove.ResizeFlavorInput{Old: flavorSmall, New: flavorLarge},
			change(trove.TaskResizing, map[string]int{trove.QuotaRAM: flavorLarge.RAM - flavorSmall.RAM})
	case shrinkFlavor: // the quota is given back when it is done
		return trove.ResizeFlavorInput{Old: flavorLarge, New: flavorSmall}, change(trove.TaskResizing, nil)
	}
	return nil, fmt.Errorf("no operation %q", kind)
}

// shrinkFlavor stands for a resize to a smaller flavor.
const shrinkFlavor = trove.OpResizeFlavor + "/shrink"

// stoppedVolume and stoppedFlavor stand for resizes of an instance that is stopped, stoppedDelete for its delete.
const (
	stoppedVolume = trove.OpResizeVolume + "/stopped"
	stoppedFlavor = trove.OpResizeFlavor + "/stopped"
	stoppedDelete = trove.OpDelete + "/stopped"
)

// leftStopped stands for the restart of a database that a failed operation has left stopped.
const leftStopped = trove.OpRestart + "/left"

// operationOf returns the kind of operation without what a test says of its circumstances.
func operationOf(kind string) string {
	kind, _, _ = strings.Cut(kind, "/")
	return kind
}

// beginsStopped reports whether the operation is on an instance that is stopped.
func beginsStopped(kind string) bool {
	return kind == trove.OpStart || strings.HasSuffix(kind, "/stopped")
}

// beginsUpgraded reports whether the operation is on an instance that was upgraded.
func beginsUpgraded(kind string) bool {
	return kind == trove.OpUpgradeRollback || kind == trove.OpUpgradeConfirm
}

// firstFlavor is what the instance of a test is created with.
func firstFlavor(kind string) trove.Flavor {
	if kind == shrinkFlavor {
		return flavorLarge
	}
	return flavorSmall
}

// carryOut runs taskmanagers, a new one whenever one was killed, until the operation is closed.
func (w *world) carryOut(id string) trove.Operation {
	w.t.Helper()
	m := w.start()
	defer func() { m.stop() }()
	for range 20000 {
		op, err := w.store.Operation(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if op.State != trove.OperationOpen {
			return op
		}
		if m.isDead() {
			m.stop()
			m = w.start()
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // of the bubble's time
	}
	op, _ := w.store.Operation(w.t.Context(), id)
	w.t.Fatalf("operation %s is still open: step %s, %s; calls %v", op.Kind, op.Step, op.Sentence, w.calls)
	return op
}
