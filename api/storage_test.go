package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
)

const storagePath = "/instances/" + labID + "/storage"

func TestAlarmIsShown(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	if text := w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+labID, "", nil).Body.String(); strings.Contains(text, "storage_alarm") {
		t.Errorf("an alarm without a reason: %s", text)
	}
	since := w.clock.Now()
	w.change(t, labID, func(i *trove.Instance) {
		i.Storage.Alarm, i.Storage.Since, i.Storage.Refusal, i.Storage.Tried = trove.StorageHigh, since, "no room", since
	})
	if text := w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+labID, "", nil).Body.String(); !strings.Contains(text, `"storage_alarm":"high"`) {
		t.Errorf("no alarm: %s", text)
	}
	var got wire.StorageBody
	w.must(t, http.StatusOK, "member", http.MethodGet, storagePath, "", &got)
	at, used, percent := wire.Time(since.Truncate(time.Second)), 0.12, 12.0
	want := wire.Storage{Size: 1, Used: &used, UsedPercent: &percent, Alarm: "high", AlarmSince: &at, LastAttempt: &at, Refusal: "no room"}
	if diff := cmp.Diff(want, got.Storage, cmp.Comparer(func(a, b wire.Time) bool { return time.Time(a).Equal(time.Time(b)) })); diff != "" {
		t.Error(diff)
	}
}

func TestAutoscaleIsSetAndTakenAway(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.MaxVolumeSize = 500 })
	w.addLab(t)
	set := func(body string) wire.Autoscale {
		t.Helper()
		var got wire.StorageBody
		w.must(t, http.StatusOK, "member", http.MethodPut, storagePath+"/autoscale", `{"autoscale":`+body+`}`, &got)
		return *got.Storage.Autoscale
	}
	for body, want := range map[string]wire.Autoscale{
		`{"max":100}`:                                     {Threshold: 80, StepPercent: 10, Max: 100},
		`{"threshold":90,"step":5,"max":2}`:               {Threshold: 90, Step: 5, Max: 2},
		`{"threshold":50,"step_percent":100,"max":500.0}`: {Threshold: 50, StepPercent: 100, Max: 500},
	} {
		if diff := cmp.Diff(want, set(body)); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	before, err := w.store.Instance(t.Context(), labID)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`{}`, `{"max":1}`, `{"max":0}`, `{"max":501}`, `{"max":"100"}`, `{"max":1.5}`, `{"threshold":49,"max":9}`, `{"threshold":96,"max":9}`, `{"step":0,"max":9}`,
		`{"step":1,"step_percent":1,"max":9}`, `{"step_percent":101,"max":9}`, `{"max":9,"other":1}`, `{"max":1e30}`,
	} {
		w.must(t, http.StatusBadRequest, "member", http.MethodPut, storagePath+"/autoscale", `{"autoscale":`+body+`}`, nil)
	}
	w.must(t, http.StatusNotFound, "other", http.MethodPut, storagePath+"/autoscale", `{"autoscale":{"max":9}}`, nil)
	after, err := w.store.Instance(t.Context(), labID)
	if diff := cmp.Diff(before.Storage, after.Storage); diff != "" || err != nil {
		t.Errorf("what was refused has changed something: %s %v", diff, err)
	}
	for range 2 {
		w.must(t, http.StatusNoContent, "member", http.MethodDelete, storagePath+"/autoscale", "", nil)
	}
	var got wire.StorageBody
	w.must(t, http.StatusOK, "member", http.MethodGet, storagePath, "", &got)
	if got.Storage.Autoscale != nil {
		t.Errorf("%+v", got)
	}
	w.change(t, labID, func(i *trove.Instance) { i.VolumeSize = 0 })
	w.must(t, http.StatusBadRequest, "member", http.MethodGet, storagePath, "", nil)
	w.must(t, http.StatusBadRequest, "member", http.MethodPut, storagePath+"/autoscale", `{"autoscale":{"max":9}}`, nil)
}
