package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
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

// BenchmarkAcceptCreate is POST /instances up to its answer, on a store that waits for the disk: a create that was accepted survives a power cut. Several
// clients ask at once, each commit is one's own.
func BenchmarkAcceptCreate(b *testing.B) {
	synced, err := sqlstore.Open(b.Context(), sqlstore.Config{
		Path:   filepath.Join(b.TempDir(), "synced.db"),
		Quotas: map[string]int{trove.QuotaInstances: -1, trove.QuotaVolumes: -1},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = synced.Close() })
	w := newWorld(b, nil, func(c *api.Config) {
		c.Store = synced
		c.Wake = func(context.Context) {}
	})
	inTx(b, synced, func(ctx context.Context, tx store.Tx) error {
		for _, d := range mustDatastores(b, w.store) {
			if err := tx.PutDatastore(ctx, d); err != nil {
				return err
			}
			versions, err := w.store.DatastoreVersions(b.Context(), d.ID)
			if err != nil {
				return err
			}
			for _, v := range versions {
				if err := tx.PutDatastoreVersion(ctx, v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	const body = `{"instance":{"name":"bench","flavorRef":"2","volume":{"size":1},"datastore":{"type":"mariadb","version":"10.11.6"}}}`
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1.0/"+project+"/instances", strings.NewReader(body))
			r.Header.Set("X-Auth-Token", "member")
			r.Header.Set("Content-Type", "application/json")
			answer := httptest.NewRecorder()
			w.handler.ServeHTTP(answer, r)
			if answer.Code != http.StatusOK {
				b.Errorf("status %d: %s", answer.Code, answer.Body)
				return
			}
		}
	})
}

func mustDatastores(b *testing.B, st store.Store) []trove.Datastore {
	b.Helper()
	all, err := st.Datastores(b.Context())
	if err != nil || len(all) == 0 {
		b.Fatalf("%d datastores, %v", len(all), err)
	}
	return all
}

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
