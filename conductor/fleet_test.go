package conductor_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// measured are guests that say what a test wants.
type measured struct {
	mu   sync.Mutex
	say  map[string]guestapi.Metrics
	args guestapi.MetricsArgs
}

func (m *measured) Metrics(_ context.Context, id string, args guestapi.MetricsArgs) (guestapi.Metrics, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.args = args
	all, ok := m.say[id]
	if !ok {
		return all, trove.Errorf(trove.KindUnavailable, "away")
	}
	return all, nil
}

func one(name string, counter bool, value float64) guestapi.MetricFamily {
	return guestapi.MetricFamily{Name: name, Help: "Help of " + name, Counter: counter, Series: []guestapi.MetricSeries{{Labels: map[string]string{"instance": "mine"}, Value: value}}}
}

// fleetPage reads the page as Prometheus does.
func fleetPage(t *testing.T, f *conductor.Fleet) map[string]*dto.MetricFamily {
	t.Helper()
	rec := httptest.NewRecorder()
	f.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics/instances", http.NoBody))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(rec.Body.String()))
	if err != nil || rec.Code != http.StatusOK {
		t.Fatalf("%d, %v in\n%s", rec.Code, err, rec.Body)
	}
	return all
}

// valueOf returns the value of an instance's series.
func valueOf(f *dto.MetricFamily, instance string) (value float64, found bool) {
	for _, m := range f.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["instance"] == instance && labels["project"] == "p" {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

// TestFleetIsOnePage: two instances of one product, one that is down, and a guest that lies about types and names: nobody's figures are lost by it.
func TestFleetIsOnePage(t *testing.T) {
	const first, second, down = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	now := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for n, id := range []string{first, second, down} {
			i := trove.Instance{ID: id, ProjectID: "p", Name: "db", ServerID: uint32(n + 1), VolumeSize: 1, ServerStatus: trove.ServerActive, Task: trove.TaskNone}
			if err := tx.InsertInstance(ctx, i); err != nil {
				return err
			}
			service := trove.ServiceHealthy
			if id == down {
				service = trove.ServiceCrashed
			}
			if err := tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: now.Now(), BootID: "b", Service: service, VolumeUsed: 5, VolumeTotal: 10}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	guests := &measured{say: map[string]guestapi.Metrics{
		first: {Families: []guestapi.MetricFamily{one("mysql_global_status_queries", true, 5), one("only_mine", false, 1)}},
		second: {Families: []guestapi.MetricFamily{
			one("mysql_global_status_queries", true, 7), one("only_mine", true, 9), one("trove_instance_up", false, 42),
		}},
		down: {Families: []guestapi.MetricFamily{one("mysql_global_status_queries", true, 99)}},
	}}
	f, err := conductor.NewFleet(conductor.FleetConfig{
		Store: s, Guests: guests, Clock: now, Log: slog.New(slog.DiscardHandler), Interval: time.Minute, Series: 40,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := func(all map[string]*dto.MetricFamily, name, instance string, value float64, there bool) {
		t.Helper()
		if got, found := valueOf(all[name], instance); got != value || found != there {
			t.Errorf("%s of %s: %v, found %v; want %v, %v", name, instance, got, found, value, there)
		}
	}
	all := fleetPage(t, f)
	want(all, "mysql_global_status_queries", first, 5, true)
	want(all, "mysql_global_status_queries", second, 7, true)
	want(all, "mysql_global_status_queries", down, 0, false)
	want(all, "only_mine", first, 1, true)
	want(all, "only_mine", second, 0, false)
	want(all, "trove_instance_up", second, 1, true)
	want(all, "trove_instance_up", down, 0, true)
	want(all, "trove_instance_volume_used_bytes", down, 5, true)
	if guests.args.Series != 40 {
		t.Errorf("a guest was asked for %d series", guests.args.Series)
	}
	guests.mu.Lock()
	delete(guests.say, second)
	guests.mu.Unlock()
	if err := f.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	all = fleetPage(t, f)
	want(all, "mysql_global_status_queries", second, 0, false)
	want(all, "trove_instance_scrape_success", second, 0, true)
	want(all, "trove_instance_scrape_success", first, 1, true)
}
