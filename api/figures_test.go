package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
)

// fakeFigures are what guests say of their databases' figures.
type fakeFigures struct {
	mu      sync.Mutex
	err     error
	metrics guestapi.Metrics
	drift   []guestapi.Difference
	limit   int // of the last question for statements
}

func (f *fakeFigures) Metrics(context.Context, string, guestapi.MetricsArgs) (guestapi.Metrics, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.metrics
	if all.Families == nil {
		all.Families = []guestapi.MetricFamily{
			{Name: "mysql_global_status_queries", Help: "Queries.", Counter: true, Series: []guestapi.MetricSeries{{Value: 12}}},
		}
	}
	return all, f.err
}

func (f *fakeFigures) Statements(_ context.Context, _ string, args guestapi.StatementsArgs) ([]guestapi.Statement, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = args.Limit
	return []guestapi.Statement{{Text: "SELECT * FROM `orders` WHERE `id` = ?", Database: "shop", Calls: 1000, Microseconds: 2_500_000, Rows: 999}}, f.err
}

func (f *fakeFigures) Drift(context.Context, string) ([]guestapi.Difference, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drift, f.err
}

const metricsPath = "/instances/" + labID + "/metrics"

// scrape asks as Prometheus does, and parses as it does.
func (w *world) scrape(t *testing.T, path, token string) (int, map[string]float64) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://trove.example:8779/v1.0/"+path, http.NoBody)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		return rec.Code, nil
	}
	return rec.Code, parsed(t, rec)
}

func parsed(t *testing.T, rec *httptest.ResponseRecorder) map[string]float64 {
	t.Helper()
	if got := rec.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("the type is %q", got)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(rec.Body.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, rec.Body)
	}
	values := map[string]float64{}
	for name, f := range all {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, m := range f.GetMetric() {
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestMetricsAreReadByPrometheus(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	got := parsed(t, w.must(t, http.StatusOK, "member", http.MethodGet, metricsPath, "", nil))
	if got["mysql_global_status_queries"] != 12 || got["trove_instance_up"] != 1 || got["trove_instance_scrape_success"] != 1 ||
		got["trove_instance_volume_total_bytes"] != 1<<30 {
		t.Errorf("%v", got)
	}
	w.guests.metrics = guestapi.Metrics{Left: 7, Families: []guestapi.MetricFamily{
		{Name: "trove_instance_up", Help: "A lie.", Series: []guestapi.MetricSeries{{Value: 5}}}, {Name: "fine", Help: "Fine.", Series: []guestapi.MetricSeries{{Value: 1}}},
	}}
	if got = parsed(t, w.must(t, http.StatusOK, "member", http.MethodGet, metricsPath, "", nil)); got["trove_instance_up"] != 1 || got["fine"] != 1 ||
		got["trove_instance_scrape_left_out"] != 7 {
		t.Errorf("a guest speaks for the control plane: %v", got)
	}
	w.guests.err = trove.Errorf(trove.KindUnavailable, "away")
	if got = parsed(t, w.must(t, http.StatusOK, "member", http.MethodGet, metricsPath, "", nil)); got["trove_instance_scrape_success"] != 0 || got["trove_instance_up"] != 1 {
		t.Errorf("a guest that does not answer: %v", got)
	}
	w.clock.Add(time.Hour)
	if got = parsed(t, w.must(t, http.StatusOK, "member", http.MethodGet, metricsPath, "", nil)); got["trove_instance_up"] != 0 {
		t.Errorf("a guest that is silent: %v", got)
	}
	w.must(t, http.StatusNotFound, "other", http.MethodGet, metricsPath, "", nil)
}

func TestScrapeTokenReadsMetricsAndNothingElse(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	path := project + metricsPath
	w.must(t, http.StatusNotFound, "member", http.MethodGet, metricsPath+"/token", "", nil)
	w.must(t, http.StatusNotFound, "other", http.MethodPost, metricsPath+"/token", "", nil)
	var made wire.ScrapeTokenBody
	w.must(t, http.StatusOK, "member", http.MethodPost, metricsPath+"/token", "", &made)
	token := made.ScrapeToken.Token
	if code, got := w.scrape(t, path, token); code != http.StatusOK || got["trove_instance_up"] != 1 {
		t.Errorf("%d, %v", code, got)
	}
	for what, try := range map[string][2]string{
		"another resource":      {project + "/instances/" + labID, token},
		"the list":              {project + "/instances", token},
		"the token itself":      {path + "/token", token},
		"another instance":      {project + "/instances/" + absentID + "/metrics", token},
		"another project's URL": {projectOther + metricsPath, token},
		"a wrong token":         {path, "trove-scrape-" + strings.Repeat("A", 26)},
		"a bearer of Keystone":  {path, "member"},
		"no token":              {path, ""},
	} {
		if code, _ := w.scrape(t, try[0], try[1]); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, code)
		}
	}
	var shown wire.ScrapeTokenBody
	w.must(t, http.StatusOK, "member", http.MethodGet, metricsPath+"/token", "", &shown)
	if shown.ScrapeToken.Token != "" || shown.ScrapeToken.UserID != "u-member" || !strings.HasSuffix(shown.ScrapeToken.URL, path) {
		t.Errorf("%+v", shown)
	}
	kept, err := w.store.ScrapeToken(t.Context(), labID)
	if err != nil || strings.Contains(kept.Hash, token) || len(kept.Hash) != 64 {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	var next wire.ScrapeTokenBody
	w.must(t, http.StatusOK, "member", http.MethodPost, metricsPath+"/token", "", &next)
	if code, _ := w.scrape(t, path, token); code != http.StatusUnauthorized {
		t.Errorf("a token that was replaced: %d", code)
	}
	for range 2 {
		w.must(t, http.StatusNoContent, "member", http.MethodDelete, metricsPath+"/token", "", nil)
	}
	if code, _ := w.scrape(t, path, next.ScrapeToken.Token); code != http.StatusUnauthorized {
		t.Errorf("a token that was revoked: %d", code)
	}
}

func TestStatements(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	const path = "/instances/" + labID + "/statements"
	var got wire.StatementList
	w.must(t, http.StatusOK, "member", http.MethodGet, path, "", &got)
	want := wire.StatementList{Statements: []wire.Statement{{Text: "SELECT * FROM `orders` WHERE `id` = ?", Database: "shop", Calls: 1000, Seconds: 2.5, Rows: 999}}}
	if diff := cmp.Diff(want, got); diff != "" || w.guests.limit != 20 {
		t.Error(diff, w.guests.limit)
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x"} {
		w.must(t, http.StatusBadRequest, "member", http.MethodGet, path+query, "", nil)
	}
	w.must(t, http.StatusNotFound, "other", http.MethodGet, path, "", nil)
	w.clock.Add(time.Hour)
	w.must(t, http.StatusUnprocessableEntity, "member", http.MethodGet, path, "", nil)
}

func TestDriftIsShownBesideTheDefaults(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	const path = "/instances/" + labID + "/configuration"
	read := func() wire.DefaultConfiguration {
		t.Helper()
		var got wire.DefaultConfigurationBody
		if err := json.Unmarshal(w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got.Instance
	}
	if got := read(); got.Drift != nil || len(got.Configuration) == 0 {
		t.Errorf("%+v", got)
	}
	w.guests.drift = []guestapi.Difference{{Name: "max_connections", Want: "500", Is: "5"}}
	if diff := cmp.Diff([]wire.Difference{{Name: "max_connections", Wanted: "500", Actual: "5"}}, read().Drift); diff != "" {
		t.Error(diff)
	}
	w.guests.err = trove.Errorf(trove.KindUnavailable, "away")
	if got := read(); len(got.Configuration) == 0 {
		t.Errorf("without the guest: %+v", got)
	}
}
