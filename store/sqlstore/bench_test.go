package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// BenchmarkInstancesPage reads a page of 20 of a project's 10,000 instances from random places.
func BenchmarkInstancesPage(b *testing.B) {
	ctx := b.Context()
	s, err := sqlstore.Open(ctx, sqlstore.Config{Path: b.TempDir() + "/store.db", NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var markers []string
	err = s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		for n := range 10_000 {
			i := trove.Instance{
				ID: trove.NewID(), ProjectID: "b0f6a2f1c0d84f0c8c5f0c3d5f5f5f5f", Name: fmt.Sprintf("db-%d", n), Created: now, Updated: now,
				Task: trove.TaskNone, ServerStatus: trove.ServerActive, DatastoreVersionID: trove.NewID(), FlavorID: "2", VolumeSize: 5,
				Region: "RegionOne", Addresses: []trove.Address{{Address: "10.1.2.3", Type: "private", Network: trove.NewID()}},
				Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 5, trove.QuotaRAM: 512},
			}
			markers = append(markers, i.ID)
			if err := tx.InsertInstance(ctx, i); err != nil {
				return err
			}
			if err := tx.RecordReports(ctx, []store.GuestReport{{InstanceID: i.ID, SeenAt: now, BootID: "b", Service: trove.ServiceHealthy, EngineStart: 1}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for m := ""; ; { // a server that has run for a while
		page, err := s.Instances(ctx, store.InstanceFilter{Marker: m, Limit: 1000})
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		m = page[len(page)-1].ID
	}
	n := 0
	for b.Loop() {
		page, err := s.Instances(ctx, store.InstanceFilter{ProjectID: "b0f6a2f1c0d84f0c8c5f0c3d5f5f5f5f", Marker: markers[n%len(markers)], Limit: 20})
		if err != nil || len(page) == 0 && n == 0 {
			b.Fatal(len(page), err)
		}
		n++
	}
}

// eachStore runs a benchmark with each database; servers wait for the disk as SQLite does.
func eachStore(b *testing.B, bench func(b *testing.B, s *sqlstore.Store)) {
	b.Run("sqlite", func(b *testing.B) {
		s, err := sqlstore.Open(b.Context(), sqlstore.Config{Path: b.TempDir() + "/store.db"})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close() //nolint:errcheck // nothing is waiting to be written
		bench(b, s)
	})
	for _, kind := range dbserver.Kinds {
		b.Run(kind, func(b *testing.B) {
			s, err := sqlstore.Open(b.Context(), sqlstore.Config{Server: dbserver.Start(b, kind, dbserver.Options{Sync: true}).Database(b)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // nothing is waiting to be written
			bench(b, s)
		})
	}
}

// BenchmarkStoreAccept is what an accepted create writes, durable: quota, instance, operation. Several write at once.
func BenchmarkStoreAccept(b *testing.B) {
	eachStore(b, func(b *testing.B, s *sqlstore.Store) {
		now := storetest.Start
		err := s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p", trove.QuotaInstances, -1) })
		if err != nil {
			b.Fatal(err)
		}
		b.SetParallelism(4) // times GOMAXPROCS
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				i := storetest.Instance("p")
				err := s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error {
					return errors.Join(tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaInstances: 1}), tx.InsertInstance(ctx, i), tx.EnqueueOperation(ctx, store.OperationRow{
						Operation: trove.Operation{ID: trove.NewID(), Kind: "k", Target: i.ID, Created: now, Updated: now, Deadline: now}, WakeAt: now,
					}))
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkStoreRead reads one instance of a thousand, and a page of 20 of them.
func BenchmarkStoreRead(b *testing.B) {
	eachStore(b, func(b *testing.B, s *sqlstore.Store) {
		var ids []string
		err := s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error {
			ids = ids[:0]
			for range 1000 {
				i := storetest.Instance("p")
				ids = append(ids, i.ID)
				if err := tx.InsertInstance(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Run("one", func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if _, err := s.Instance(b.Context(), ids[n%len(ids)]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("page", func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if _, err := s.Instances(b.Context(), store.InstanceFilter{ProjectID: "p", Marker: ids[n%len(ids)], Limit: 20}); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkStoreHeartbeats writes the reports of 500 guests in one transaction.
func BenchmarkStoreHeartbeats(b *testing.B) {
	eachStore(b, func(b *testing.B, s *sqlstore.Store) {
		reports := make([]store.GuestReport, 500)
		err := s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error {
			for n := range reports {
				i := storetest.Instance("p")
				reports[n] = store.GuestReport{InstanceID: i.ID, BootID: "b", Service: trove.ServiceHealthy, AgentVersion: "1"}
				if err := tx.InsertInstance(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for at := storetest.Start; b.Loop(); at = at.Add(time.Second) {
			for n := range reports {
				reports[n].SeenAt = at
			}
			if err := s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error { return tx.RecordReports(ctx, reports) }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
