package reconcilers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// fullPause takes the place of trove.AutoscalePause for a volume that is as good as full. It is longer than a guest may be silent, so that what is seen after
// it is never the report that the last growth began with.
const fullPause = time.Minute

// Storage raises alarms for volumes that fill up, and begins the growth of those that shall grow by themselves. It believes a guest that was heard of lately,
// and nothing while an operation works on the instance.
type Storage struct {
	cfg    Config
	alarms *prometheus.GaugeVec

	mu    sync.Mutex
	count map[trove.StorageAlarm]int // of the pass that goes on
}

func newStorage(c Config) *Storage {
	return &Storage{cfg: c, count: map[trove.StorageAlarm]int{}, alarms: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "trove_storage_alarms", Help: "Instances whose data volume is filling up, by alarm: high or full.",
	}, []string{"alarm"})}
}

// counted publishes how many alarms the pass saw that has ended, and begins another one.
func (s *Storage) counted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range []trove.StorageAlarm{trove.StorageHigh, trove.StorageFull} {
		s.alarms.WithLabelValues(string(a)).Set(float64(s.count[a]))
	}
	clear(s.count)
}

// knownUsage reports whether the guest's last words about the volume are to be believed now.
func knownUsage(i *trove.Instance, now time.Time) bool {
	return i.VolumeSize > 0 && i.Guest.VolumeTotal > 0 && i.ServerStatus == trove.ServerActive && shouldRun(i) && !i.Silent(now)
}

func (s *Storage) concerns(i *trove.Instance, now time.Time) bool {
	s.mu.Lock()
	s.count[i.Storage.Alarm]++
	s.mu.Unlock()
	st := &i.Storage
	if !knownUsage(i, now) {
		return false
	}
	due := growthDue(i)
	return st.Operation != "" || st.Alarm.Next(i.Guest.VolumeUsed, i.Guest.VolumeTotal) != st.Alarm ||
		!due && st.Refusal != "" || due && rested(i, now)
}

func growthDue(i *trove.Instance) bool {
	a := i.Storage.Autoscale
	return a != nil && a.Due(i.Guest.VolumeUsed, i.Guest.VolumeTotal)
}

// rested reports whether the last attempt is long ago, and the usage was measured after the last change of the instance: that may have been a growth.
func rested(i *trove.Instance, now time.Time) bool {
	pause := trove.AutoscalePause
	if i.Storage.Alarm == trove.StorageFull {
		pause = fullPause
	}
	return now.Sub(i.Storage.Tried) >= pause && i.Guest.SeenAt.After(i.Updated)
}

// ReconcileOne looks at one instance's volume.
func (s *Storage) ReconcileOne(ctx context.Context, id string) error {
	begun, err := s.look(ctx, id, nil)
	if kind := trove.KindOf(err); err != nil && (kind == trove.KindOverLimit || kind == trove.KindUnprocessable) {
		_, err = s.look(ctx, id, err) // the transaction that would have begun the growth is gone; this one says why
	}
	switch {
	case trove.IsNotFound(err), errors.Is(err, store.ErrBusy):
		return nil
	case err != nil:
		return fmt.Errorf("look at the volume of %s: %w", id, err)
	case begun:
		s.cfg.Wake()
	}
	return nil
}

// look is one transaction: what became of the last growth, the alarm, and whether the volume grows now. With a refusal it does not try again.
func (s *Storage) look(ctx context.Context, id string, refusal error) (begun bool, err error) {
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		begun = false
		i, err := tx.Instance(ctx, id)
		now := s.cfg.Clock.Now()
		if err != nil || !knownUsage(&i, now) {
			return err //nolint:wrapcheck // ReconcileOne wraps
		}
		if _, err := tx.OpenOperation(ctx, id); !trove.IsNotFound(err) {
			return err //nolint:wrapcheck // busy, or the error
		}
		v := &volume{cfg: s.cfg, tx: tx, i: &i, now: now, was: i.Storage}
		if err := v.ended(ctx); err != nil {
			return err
		}
		if err := v.alarm(ctx); err != nil {
			return err
		}
		if begun, err = v.grow(ctx, refusal); err != nil {
			return err
		}
		return v.write(ctx, begun)
	})
	return begun, err //nolint:wrapcheck // ReconcileOne wraps
}

// volume is one instance's volume in a transaction. What it changes of the instance is written in the end.
type volume struct {
	cfg Config
	tx  store.Tx
	i   *trove.Instance
	now time.Time
	was trove.Storage
}

func (v *volume) say(ctx context.Context, kind, format string, args ...any) error {
	e := trove.InstanceEvent{InstanceID: v.i.ID, At: v.now, Kind: kind, Sentence: fmt.Sprintf(format, args...)}
	v.cfg.Log.InfoContext(ctx, "volume", "instance", v.i.ID, "event", kind, "sentence", e.Sentence)
	return v.tx.CountInstanceEvent(ctx, e, countedWithin) //nolint:wrapcheck // ReconcileOne wraps
}

// ended looks at the growth that was begun and is over.
func (v *volume) ended(ctx context.Context) error {
	st := &v.i.Storage
	if st.Operation == "" {
		return nil
	}
	op, err := v.tx.Operation(ctx, st.Operation)
	if err != nil && !trove.IsNotFound(err) {
		return err //nolint:wrapcheck // ReconcileOne wraps
	}
	known := err == nil
	st.Operation, st.Tried = "", v.now
	if !known || op.State == trove.OperationDone {
		st.Refusal = ""
		return nil
	}
	return v.refused(ctx, "Growing it failed: "+op.Error)
}

// refused keeps why the volume did not grow, and says it when it is news.
func (v *volume) refused(ctx context.Context, why string) error {
	st := &v.i.Storage
	if st.Tried = v.now; st.Refusal == why {
		return nil
	}
	st.Refusal = why
	return v.say(ctx, trove.EventStorageRefused, "The volume was to grow by itself and does not. %s", why)
}

func (v *volume) alarm(ctx context.Context) error {
	st, g := &v.i.Storage, &v.i.Guest
	next := st.Alarm.Next(g.VolumeUsed, g.VolumeTotal)
	if next == st.Alarm {
		return nil
	}
	worse := next == trove.StorageFull || st.Alarm == trove.StorageOK
	st.Alarm, st.Since = next, v.now
	percent := float64(g.VolumeUsed) / float64(g.VolumeTotal) * 100
	switch {
	case next == trove.StorageFull:
		return v.say(ctx, trove.EventStorageFull, "The data volume is %.0f %% full: the database is about to refuse writes. Grow it.", percent)
	case next == trove.StorageHigh && worse:
		return v.say(ctx, trove.EventStorageHigh, "The data volume is %.0f %% full. Grow it, or let it grow by itself.", percent)
	case next == trove.StorageHigh:
		return v.say(ctx, trove.EventStorageHigh, "The data volume is %.0f %% full, less than before.", percent)
	}
	return v.say(ctx, trove.EventStorageOK, "The data volume has room again: %.0f %% of it are used.", percent)
}

// grow begins the growth that is due: an ordinary resize, within the project's quota.
func (v *volume) grow(ctx context.Context, refusal error) (bool, error) {
	st := &v.i.Storage
	if !growthDue(v.i) {
		st.Refusal = ""
		return false, nil
	}
	if refusal != nil {
		return false, v.refused(ctx, trove.MessageOf(refusal))
	}
	if !rested(v.i, v.now) {
		return false, nil
	}
	next := st.Autoscale.Next(v.i.VolumeSize)
	if next == v.i.VolumeSize {
		return false, v.refused(ctx, fmt.Sprintf("It has reached the maximum of %d GiB that it may grow to by itself.", st.Autoscale.Max))
	}
	if err := v.i.CheckActionable(v.i.BackingUp); err != nil {
		return false, err //nolint:wrapcheck // for users as it is
	}
	if missing := next - v.i.Held[trove.QuotaVolumes]; missing > 0 {
		if err := v.tx.TakeQuota(ctx, v.i.ProjectID, map[string]int{trove.QuotaVolumes: missing}); err != nil {
			return false, err //nolint:wrapcheck // for users as it is
		}
		held := maps.Clone(v.i.Held)
		if held == nil {
			held = map[string]int{}
		}
		held[trove.QuotaVolumes] = next
		v.i.Held = held
	}
	op, err := workflow.Enqueue(ctx, v.tx, v.now, workflow.Request{
		Kind: trove.OpResizeVolume, Target: v.i.ID, ProjectID: v.i.ProjectID, RequestID: telemetry.NewRequestID(),
		Input: trove.ResizeVolumeInput{Old: v.i.VolumeSize, New: next},
	})
	if err != nil {
		return false, err //nolint:wrapcheck // says what was enqueued
	}
	st.Tried, st.Operation = v.now, op
	return true, v.say(ctx, trove.EventStorageGrows, "The data volume is %d %% full or more and grows by itself from %d to %d GiB.", st.Autoscale.Threshold, v.i.VolumeSize, next)
}

// write keeps what has changed. An alarm alone is no change of the instance that its date of change would tell.
func (v *volume) write(ctx context.Context, begun bool) error {
	if v.i.Storage == v.was && !begun {
		return nil
	}
	updated := v.i.Updated
	if begun {
		updated = v.now
	}
	return v.tx.UpdateInstance(ctx, v.i.ID, updated, func(i *trove.Instance) error { //nolint:wrapcheck // ReconcileOne wraps
		i.Storage = v.i.Storage
		if begun {
			i.Held, i.Task = v.i.Held, trove.TaskResizing
		}
		return nil
	})
}
