package sqlstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
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
