package cli_test

import (
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"

	"github.com/trove-dbaas/trove/api/wire"
)

// withFigures adds the stories of storage, metrics and the tail of a log.
func withFigures(stories map[string][]string) map[string][]string {
	maps.Copy(stories, map[string][]string{
		"instance_storage":             {"instance storage shop -f *", "instance storage " + oldID + " -c autoscale -f value"},
		"instance_autoscale":           {"instance autoscale shop --threshold 80 --step 5 --max 100", "instance autoscale shop --max 100 --step 20%", "instance autoscale shop --off"},
		"instance_metrics":             {"instance metrics shop"},
		"instance_statements":          {"instance statements shop -f *", "instance statements shop --limit 3"},
		"instance_scrape-token_create": {"instance scrape-token create shop -f *"},
		"instance_scrape-token_show":   {"instance scrape-token show shop -f *"},
		"instance_scrape-token_revoke": {"instance scrape-token revoke shop"},
		"configuration_drift":          {"configuration drift shop -f *"},
		"log_tail":                     {"log tail shop error", "log tail shop error -n 1", "log tail shop error --published", "log tail shop error --published --lines 1"},
	})
	return stories
}

// figures are storage, metrics and the tail of a log.
func (f *fakeAPI) figures(at string) {
	get := func(path string, body any) {
		f.mux.HandleFunc("GET /v1.0/p"+path, func(w http.ResponseWriter, _ *http.Request) { encode(w, body) })
	}
	change := func(pattern string, answer any) {
		f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { f.change(w, r, answer) })
	}
	stamp := wire.Time(epoch)
	storage := wire.StorageBody{Storage: wire.Storage{
		Size: 20, Used: new(17.5), UsedPercent: new(87.5), Alarm: "high", AlarmSince: &stamp, LastAttempt: &stamp, Refusal: "Quota exceeded for resources: ['volumes'].",
		Autoscale: &wire.Autoscale{Threshold: 80, StepPercent: 10, Max: 100},
	}}
	get(at+"/storage", storage)
	get("/instances/"+oldID+"/storage", wire.StorageBody{Storage: wire.Storage{Size: 1}})
	change("PUT /v1.0/p"+at+"/storage/autoscale", storage)
	change("DELETE /v1.0/p"+at+"/storage/autoscale", nil)
	get(at+"/statements", wire.StatementList{Statements: []wire.Statement{{Text: "SELECT ?", Database: "orders", Calls: 12, Seconds: 3.25, Rows: 12}}})
	f.mux.HandleFunc("GET /v1.0/p"+at+"/metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "# TYPE trove_instance_up gauge\ntrove_instance_up 1\n")
	})
	token := wire.ScrapeToken{URL: "https://db.example:8779/v1.0/p" + at + "/metrics", UserID: "u", Created: stamp}
	get(at+"/metrics/token", wire.ScrapeTokenBody{ScrapeToken: token})
	token.Token = "trove-scrape-K7VQ2MZXN4T3JHC5WPRDLB6YAE"
	change("POST /v1.0/p"+at+"/metrics/token", wire.ScrapeTokenBody{ScrapeToken: token})
	change("DELETE /v1.0/p"+at+"/metrics/token", nil)
	var calls atomic.Int64
	f.mux.HandleFunc("GET /v1.0/p"+at+"/log/error/tail", func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		since := r.URL.Query().Get("since")
		if want := fmt.Sprintf("%d.f", n-1); since != "" && since != want {
			http.Error(w, "the cursor is "+since, http.StatusBadRequest)
			return
		}
		encode(w, wire.LogTailBody{Tail: wire.LogTail{Lines: []string{fmt.Sprintf("line %d, at most %q", n, r.URL.Query().Get("lines"))}, Cursor: fmt.Sprintf("%d.f", n), Restarted: n == 3}})
	})
}
