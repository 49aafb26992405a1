package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
	size   int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.size += len(b); return len(b), nil }

// BenchmarkList is GET /instances?limit=20 over 10,000 instances, without the network.
func BenchmarkList(b *testing.B) {
	w := newWorld(b, nil, nil)
	now := w.clock.Now()
	const count = 10_000
	for start := 0; start < count; start += 500 {
		inTx(b, w.store, func(ctx context.Context, tx store.Tx) error {
			for n := start; n < start+500; n++ {
				id := trove.NewID()
				err := tx.InsertInstance(ctx, trove.Instance{
					ID: id, ProjectID: project, Name: fmt.Sprintf("bench-%d", n), Created: now, Updated: now, ServerStatus: trove.ServerActive,
					DatastoreVersionID: versionID("mariadb", "10.11.6"), FlavorID: "2", VolumeSize: 5, Region: "RegionOne", Task: trove.TaskNone,
					Addresses: []trove.Address{{Address: "10.0.0.10", Type: "private", Network: networkID}},
					Held:      map[string]int{trove.QuotaInstances: 1},
				})
				if err != nil {
					return err
				}
				err = tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: now.Add(time.Second), BootID: id, Service: trove.ServiceHealthy}})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v1.0/"+project+"/instances?limit=20", http.NoBody)
	r.Header.Set("X-Auth-Token", "member")
	b.ReportAllocs()
	for b.Loop() {
		d := &discard{header: http.Header{}}
		w.handler.ServeHTTP(d, r)
		if d.status != http.StatusOK || d.size < 5000 {
			b.Fatalf("status %d, %d bytes", d.status, d.size)
		}
	}
}
