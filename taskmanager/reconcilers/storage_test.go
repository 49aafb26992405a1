package reconcilers_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// filled is a heartbeat of a volume of 100 units.
func (w *world) filled(percent int64) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		return tx.RecordReports(ctx, []store.GuestReport{{
			InstanceID: id, SeenAt: w.clock.Now(), BootID: "b", Service: trove.ServiceHealthy, VolumeUsed: percent, VolumeTotal: 100,
		}})
	})
}

// pass lets every reconciler of instances look as the loop does.
func (w *world) pass() {
	w.t.Helper()
	i := w.instance()
	if w.Concerns("storage", &i) {
		if err := w.Storage.ReconcileOne(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) said(kind string) (n int, last string) {
	w.t.Helper()
	all, err := w.store.InstanceEvents(w.t.Context(), id, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.Kind == kind {
			n, last = n+max(1, e.Count), e.Sentence
		}
	}
	return n, last
}

func (w *world) autoscale(a trove.Autoscale) {
	w.change(func(i *trove.Instance) { i.Storage.Autoscale = &a })
}

// grown ends the open resize, as the taskmanager would.
func (w *world) grown(state trove.OperationState, why string) {
	w.t.Helper()
	open, err := w.store.OpenOperation(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	rows, err := w.store.DueOperations(w.t.Context(), w.clock.Now(), 10)
	if err != nil {
		w.t.Fatal(err)
	}
	n := slices.IndexFunc(rows, func(r store.OperationRow) bool { return r.ID == open.ID })
	w.tx(func(ctx context.Context, tx store.Tx) error {
		row, err := tx.ClaimOperation(ctx, rows[n], "w", w.clock.Now().Add(time.Minute))
		if err != nil {
			return err
		}
		if row.Error = why; why != "" {
			if row, err = tx.SaveOperation(ctx, row, w.clock.Now()); err != nil {
				return err
			}
		}
		if err := tx.CloseOperation(ctx, row, state, w.clock.Now()); err != nil {
			return err
		}
		return tx.UpdateInstance(ctx, id, w.clock.Now(), func(i *trove.Instance) error {
			i.Task = trove.TaskNone
			if state == trove.OperationDone {
				i.VolumeSize = i.Held[trove.QuotaVolumes]
			}
			return nil
		})
	})
}

func TestVolumeThatFillsUpIsAnAlarm(t *testing.T) {
	w := newWorld(t)
	updated := w.instance().Updated
	for _, step := range []struct {
		percent int64
		alarm   trove.StorageAlarm
	}{{84, ""}, {86, "high"}, {82, "high"}, {86, "high"}, {98, "full"}, {96, "full"}, {50, ""}} {
		w.clock.Add(15 * time.Second)
		w.filled(step.percent)
		w.pass()
		if got := w.instance().Storage.Alarm; got != step.alarm {
			t.Errorf("at %d %%: the alarm is %q, want %q", step.percent, got, step.alarm)
		}
	}
	for _, kind := range []string{trove.EventStorageHigh, trove.EventStorageFull, trove.EventStorageOK} {
		if n, _ := w.said(kind); n != 1 {
			t.Errorf("%s was said %d times", kind, n)
		}
	}
	if _, err := w.store.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("without autoscaling nothing grows, got %v", err)
	}
	if got := w.instance().Updated; !got.Equal(updated) {
		t.Errorf("an alarm changed the date of change from %s to %s", updated, got)
	}
}

func TestVolumeGrowsByItselfOnceForEachReport(t *testing.T) {
	w := newWorld(t)
	w.autoscale(trove.Autoscale{Threshold: 80, StepGiB: 2, Max: 4})
	w.clock.Add(time.Hour)
	w.filled(81)
	for range 3 { // several taskmanagers look
		w.pass()
	}
	i, woken := w.instance(), w.woken.Load()
	if i.Task != trove.TaskResizing || i.Held[trove.QuotaVolumes] != 3 || woken != 1 {
		t.Fatalf("task %v, %v held, woken %d times", i.Task, i.Held, woken)
	}
	row := w.input()
	if row != `{"old":1,"new":3}` {
		t.Errorf("the operation's input is %s", row)
	}
	w.grown(trove.OperationDone, "")
	for range 3 { // the report is the old one still
		w.pass()
	}
	if i = w.instance(); i.Task != trove.TaskNone || i.VolumeSize != 3 || i.Storage.Operation != "" {
		t.Fatalf("after the growth: %+v", i)
	}
	w.clock.Add(trove.AutoscalePause)
	w.filled(81)
	w.pass()
	if i = w.instance(); i.Held[trove.QuotaVolumes] != 4 {
		t.Fatalf("the last step ends at the maximum: %v", i.Held)
	}
	w.grown(trove.OperationDone, "")
	for range 5 {
		w.clock.Add(trove.AutoscalePause)
		w.filled(81)
		w.pass()
	}
	n, sentence := w.said(trove.EventStorageRefused)
	if i = w.instance(); n != 1 || !strings.Contains(sentence, "maximum of 4 GiB") || i.Storage.Refusal == "" || i.VolumeSize != 4 {
		t.Errorf("at the maximum: said %d times %q, %+v", n, sentence, i.Storage)
	}
	w.filled(10)
	w.pass()
	if got := w.instance().Storage.Refusal; got != "" {
		t.Errorf("with room again the refusal is %q", got)
	}
}

func TestVolumeGrowsWithinTheQuota(t *testing.T) {
	w := newWorld(t)
	w.autoscale(trove.Autoscale{Threshold: 80, StepGiB: 2, Max: 100})
	w.tx(func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p1", trove.QuotaVolumes, 2) })
	for range 3 {
		w.clock.Add(trove.AutoscalePause)
		w.filled(90)
		w.pass()
	}
	n, sentence := w.said(trove.EventStorageRefused)
	if i := w.instance(); n != 1 || !strings.Contains(sentence, "Quota exceeded") || i.Task != trove.TaskNone || i.Storage.Alarm != trove.StorageHigh {
		t.Errorf("said %d times %q, %+v", n, sentence, i)
	}
	w.tx(func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, "p1", trove.QuotaVolumes, 20) })
	w.clock.Add(trove.AutoscalePause)
	w.filled(90)
	w.pass()
	if i := w.instance(); i.Task != trove.TaskResizing {
		t.Errorf("with quota it does not grow: %+v", i)
	}
}

func TestGrowthThatFailsIsSaidAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.autoscale(trove.Autoscale{Threshold: 80, StepPercent: 50, Max: 100})
	w.clock.Add(time.Hour)
	w.filled(99)
	w.pass()
	w.grown(trove.OperationUndone, "The pool is full.")
	w.pass()
	n, sentence := w.said(trove.EventStorageRefused)
	if i := w.instance(); n != 1 || !strings.Contains(sentence, "The pool is full.") || i.Storage.Alarm != trove.StorageFull {
		t.Errorf("said %d times %q, %+v", n, sentence, i.Storage)
	}
	w.clock.Add(time.Minute) // a full volume does not wait for five
	w.filled(99)
	w.pass()
	if i := w.instance(); i.Task != trove.TaskResizing {
		t.Errorf("it is not tried again: %+v", i)
	}
}

func TestSilentGuestRaisesNoAlarm(t *testing.T) {
	w := newWorld(t)
	w.autoscale(trove.Autoscale{Threshold: 80, StepGiB: 1, Max: 100})
	w.clock.Add(time.Hour)
	w.filled(99)
	w.clock.Add(time.Minute)
	w.pass()
	if i := w.instance(); i.Storage.Alarm != "" || i.Task != trove.TaskNone {
		t.Errorf("an old report was believed: %+v", i)
	}
}

// input is what the open operation was begun with.
func (w *world) input() string {
	w.t.Helper()
	rows, err := w.store.DueOperations(w.t.Context(), w.clock.Now(), 10)
	if err != nil || len(rows) != 1 {
		w.t.Fatalf("%v, %v", rows, err)
	}
	var row store.OperationRow
	w.tx(func(ctx context.Context, tx store.Tx) error {
		row, err = tx.ClaimOperation(ctx, rows[0], "look", w.clock.Now())
		return err
	})
	return string(row.Input)
}
