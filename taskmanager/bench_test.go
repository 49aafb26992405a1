package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

// BenchmarkCreate is a whole create, from the accepted request to ACTIVE, over SQLite that waits for the disk, a cloud and guests that take
// no time: what the control plane itself costs. One at a time is the latency, 32 at a time the throughput.
func BenchmarkCreate(b *testing.B) {
	for _, parallel := range []int{1, 32} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) { benchmarkCreate(b, parallel) })
	}
}

func benchmarkCreate(b *testing.B, parallel int) {
	ctx, cancel := context.WithCancel(b.Context())
	s, err := sqlstore.Open(ctx, sqlstore.Config{Path: b.TempDir() + "/store.db", Quotas: map[string]int{
		trove.QuotaInstances: -1, trove.QuotaVolumes: -1,
	}})
	if err != nil {
		b.Fatal(err)
	}
	err = s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "33333333-3333-4333-8333-333333333333", Name: "mariadb"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: "33333333-3333-4333-8333-333333333333", Name: "10.11", Manager: "fake", ImageID: "image-1", Active: true,
				Capabilities: trove.Capabilities{Port: 3306, Volume: true},
			}))
	})
	if err != nil {
		b.Fatal(err)
	}
	broker := membus.New()
	fleet := guesttest.New(guesttest.Options{Connect: broker.Conn, Enrol: func(ctx context.Context, _, token, key string) error {
		return s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			_, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(token)), key, time.Now())
			return err
		})
	}})
	cloud := fake.New(fake.Options{Flavors: []trove.Flavor{flavorSmall}, Images: []string{"image-1"}, Boot: fleet.Boot, Halt: fleet.Halt})
	log := slog.New(slog.DiscardHandler)
	m, err := taskmanager.New(taskmanager.Config{
		Store: s, Cloud: cloud, Guests: guestapi.NewClient(broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: sealer{},
		Clock: clock.System{}, Log: log, Workers: 32,
	})
	if err != nil {
		b.Fatal(err)
	}
	c, err := conductor.New(conductor.Config{Store: s, Conn: broker.Conn("conductor"), Clock: clock.System{}, Log: log, Wake: m.Wake})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = m.Run(ctx) })

	slots := make(chan struct{}, parallel)
	var creates sync.WaitGroup
	for b.Loop() {
		slots <- struct{}{}
		creates.Go(func() {
			defer func() { <-slots }()
			if err := createOne(ctx, s, m); err != nil {
				b.Error(err)
			}
		})
	}
	creates.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
	b.ReportMetric(float64(8*b.N)/b.Elapsed().Seconds(), "steps/s")
	cancel()
	wg.Wait()
	fleet.Close()
	if err := errors.Join(broker.Close(), s.Close()); err != nil {
		b.Error(err)
	}
}

// createOne does what the API does, and waits until the operation is closed.
func createOne(ctx context.Context, s store.Store, m *taskmanager.Manager) error {
	id, op := trove.NewID(), ""
	held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: flavorSmall.RAM, trove.QuotaVolumes: 1}
	err := s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := time.Now()
		err := errors.Join(tx.TakeQuota(ctx, project, held), tx.InsertInstance(ctx, trove.Instance{
			ID: id, ProjectID: project, Name: "db", Created: now, Updated: now, Task: trove.TaskBuilding,
			DatastoreVersionID: versionID, FlavorID: flavorSmall.ID, VolumeSize: 1, Held: held,
		}))
		if err != nil {
			return err
		}
		op, err = workflow.Enqueue(ctx, tx, now, workflow.Request{
			Kind: trove.OpCreate, Target: id, ProjectID: project, Input: trove.CreateInput{Flavor: flavorSmall},
		})
		return err
	})
	if err != nil {
		return err
	}
	m.Wake()
	for {
		o, err := s.Operation(ctx, op)
		if err != nil || o.State == trove.OperationDone {
			return err
		}
		if o.State != trove.OperationOpen {
			return errors.New(o.Error)
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
