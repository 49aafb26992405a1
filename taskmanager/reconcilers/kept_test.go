package reconcilers_test

import (
	"context"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// TestKeptDataIsDroppedInItsTime: by age, or when the volume is nearly full; once; and not while something else goes on, or after an upgrade that failed.
func TestKeptDataIsDroppedInItsTime(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for name, c := range map[string]struct {
		age  time.Duration
		used int64 // of 1000
		task trove.Task
		of   string // the version that wrote it
		want bool
	}{
		"young":                {week / 2, 500, trove.TaskNone, "before", false},
		"old":                  {week, 500, trove.TaskNone, "before", true},
		"nearly full":          {time.Minute, 900, trove.TaskNone, "before", true},
		"old and at work":      {week, 500, trove.TaskResizing, "before", false},
		"old and not usable":   {week, 950, trove.TaskUpgradingError, "before", false},
		"old and all there is": {week, 950, trove.TaskNone, versionID, false},
		"waits for a restart":  {week, 500, trove.TaskRestartRequired, "before", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(id)
			since := w.clock.Now()
			w.tx(func(ctx context.Context, tx store.Tx) error {
				return tx.PutKeptData(ctx, trove.KeptData{InstanceID: id, DatastoreVersionID: c.of, ImageID: "image-1", Since: since})
			})
			w.change(func(i *trove.Instance) { i.Task = c.task })
			w.clock.Add(c.age)
			w.tx(func(ctx context.Context, tx store.Tx) error {
				return tx.RecordReports(ctx, []store.GuestReport{{
					InstanceID: id, SeenAt: w.clock.Now(), BootID: "b", Service: trove.ServiceHealthy, VolumeUsed: c.used, VolumeTotal: 1000,
				}})
			})
			for range 2 {
				if err := w.Kept.ReconcileOne(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			op, err := w.store.OpenOperation(t.Context(), id)
			if c.want && (err != nil || op.Kind != trove.OpUpgradeConfirm) || !c.want && !trove.IsNotFound(err) {
				t.Errorf("the open operation is %+v, %v", op, err)
			}
			if got := w.events()[trove.EventKeptDropped]; (got == 1) != c.want {
				t.Errorf("%d events say so", got)
			}
		})
	}
	w := newWorld(t)
	if err := w.Kept.ReconcileOne(t.Context(), id); err != nil {
		t.Errorf("without kept data: %v", err)
	}
}
