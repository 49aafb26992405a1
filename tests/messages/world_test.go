// Package messages_test runs the real taskmanager, conductor and guest agent over a bus in memory that loses, doubles and delays messages: each operation
// ends the same whichever message it befalls. The cloud and the database are fakes; the database is a process all the same.
package messages_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/fake"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/inmemory"
)

const (
	instanceID = "11111111-1111-4111-8111-111111111111"
	versionID  = "22222222-2222-4222-8222-222222222222"
	newVersion = "22222222-2222-4222-8222-222222222223"
	storeID    = "33333333-3333-4333-8333-333333333333"
	project    = "p1"
)

var (
	small = trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1}
	large = trove.Flavor{ID: "3", Name: "db.medium", RAM: 2048, VCPUs: 2}
)

// world is one deployment with one instance. It is not for a test's own goroutine alone, so that its methods return errors.
type world struct {
	dir    string
	store  *sqlstore.Store
	broker *membus.Broker
	cloud  *fake.Cloud
	guests *inmemory.Guests
	ends   []func() error // in the order in which they were begun
}

func newWorld(ctx context.Context) (w *world, err error) {
	// A socket's path must be short.
	dir, err := os.MkdirTemp("", "messages")
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir, broker: membus.New()}
	w.ends = append(w.ends, func() error { return os.RemoveAll(dir) }, w.broker.Close)
	if w.store, err = sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, "store.db"), NoSync: true}); err != nil {
		return w, err
	}
	w.ends = append(w.ends, w.store.Close)
	err = w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: storeID, Name: "mariadb", DefaultVersionID: versionID}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: storeID, Name: "10.11", Version: "10.11", Manager: enginefake.Manager, ImageID: "image-1", Active: true,
				Capabilities: enginefake.New().Info().Capabilities,
			}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: newVersion, DatastoreID: storeID, Name: "11.8", Version: "11.8", Manager: enginefake.Manager, ImageID: "image-2", Active: true,
				Capabilities: enginefake.New().Info().Capabilities,
			}))
	})
	if err != nil {
		return w, err
	}
	w.guests = inmemory.NewGuests(dir, w.store, w.broker, nil)
	w.cloud = fake.New(fake.Options{
		Flavors: []trove.Flavor{small, large}, Images: []string{"image-1", "image-2"}, Boot: w.guests.Boot, Halt: w.guests.Halt,
	})
	w.ends = append(w.ends, func() error { w.guests.HaltAll(); return nil })
	stop, err := inmemory.StartControllers(ctx, w.store, w.broker, w.cloud)
	if err == nil {
		w.ends = append(w.ends, stop)
	}
	return w, err
}

func (w *world) close() error {
	var errs []error
	for _, end := range slices.Backward(w.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// limit is how long anything may take: a lost message costs some seconds, and many worlds share the machine.
const limit = 2 * time.Minute

func (w *world) until(ctx context.Context, what string, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !is() {
		if clock.Sleep(ctx, 5*time.Millisecond) != nil {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
	}
	return nil
}

// carryOut does what the API does for a request, and waits for the end of the operation.
func (w *world) carryOut(ctx context.Context, kind string) (trove.Operation, error) {
	var id string
	err := w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		input, err := accept(ctx, tx, kind)
		if err == nil {
			id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{Kind: kind, Target: instanceID, ProjectID: project, RequestID: "req-1", Input: input})
		}
		return err
	})
	if err == nil {
		err = w.broker.Conn("api").Publish(ctx, guestapi.WakeSubject, nil)
	}
	if err != nil {
		return trove.Operation{}, fmt.Errorf("request %s: %w", kind, err)
	}
	var op trove.Operation
	err = w.until(ctx, kind+" to end", func() bool {
		op, err = w.store.Operation(ctx, id)
		return err != nil || op.State != trove.OperationOpen
	})
	return op, err
}

func accept(ctx context.Context, tx store.Tx, kind string) (any, error) {
	change := func(task trove.Task, take map[string]int) error {
		return errors.Join(tx.TakeQuota(ctx, project, take), tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.Task = task
			for resource, n := range take {
				i.Held[resource] += n
			}
			return nil
		}))
	}
	switch kind {
	case trove.OpCreate:
		held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: small.RAM, trove.QuotaVolumes: 1}
		secrets, err := json.Marshal(trove.CreateSecrets{Users: []trove.CreateUser{{Name: "u1", Host: "%", Password: "correct horse", Databases: []string{"d1"}}}})
		sealed, _ := inmemory.Sealer{}.Seal(ctx, trove.SecretPurpose(instanceID), trove.Secret(secrets))
		return trove.CreateInput{Flavor: small, Databases: []trove.Database{{Name: "d1"}}, Sealed: sealed}, errors.Join(err,
			tx.TakeQuota(ctx, project, held),
			tx.InsertInstance(ctx, trove.Instance{
				ID: instanceID, ProjectID: project, Name: "db", Created: time.Now(), Updated: time.Now(), Task: trove.TaskBuilding,
				DatastoreVersionID: versionID, FlavorID: small.ID, VolumeSize: 1, ServerID: 7, Held: held,
			}))
	case trove.OpDelete:
		return nil, change(trove.TaskDeleting, nil)
	case trove.OpUpgrade:
		return trove.UpgradeInput{Old: versionID, New: newVersion}, change(trove.TaskUpgrading, nil)
	case trove.OpUpgradeRollback:
		return nil, change(trove.TaskUpgrading, nil)
	case trove.OpUpgradeConfirm:
		return nil, nil
	case trove.OpRebuild:
		return nil, change(trove.TaskBuilding, nil)
	case trove.OpStopEngine:
		return nil, change(trove.TaskUpdating, nil)
	case trove.OpRestart, trove.OpStop, trove.OpStart, trove.OpReboot:
		return nil, change(trove.TaskRebooting, nil)
	case trove.OpResizeVolume:
		return trove.ResizeVolumeInput{Old: 1, New: 3}, change(trove.TaskResizing, map[string]int{trove.QuotaVolumes: 2})
	case trove.OpResizeFlavor:
		return trove.ResizeFlavorInput{Old: small, New: large}, change(trove.TaskResizing, map[string]int{trove.QuotaRAM: large.RAM - small.RAM})
	}
	return nil, fmt.Errorf("no operation %q", kind)
}
