package reconcilers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// LeftStopped starts databases that an operation has stopped on the way and did not start again: it failed, and its way back could not be gone to the end. Their
// guests keep them down, as they were told. One that somebody wanted stopped stays so. It asks for a restart, which no other operation runs beside, a few times;
// the fault of the operation that failed stays.
type LeftStopped struct {
	cfg Config

	mu   sync.Mutex
	seen map[string]down
}

// startPauses are how long after its last operation such a database is started; more often it is not tried.
var startPauses = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}

// lookBack is how many operations of an instance are looked at.
const lookBack = 50

func newLeftStopped(c Config) *LeftStopped { return &LeftStopped{cfg: c, seen: map[string]down{}} }

func (l *LeftStopped) concerns(i *trove.Instance, now time.Time) bool {
	l.mu.Lock()
	_, noted := l.seen[i.ID]
	l.mu.Unlock()
	return noted || isDown(i, now)
}

// isDown reports whether the guest says that its database is down, and not by a fault of its own.
func isDown(i *trove.Instance, now time.Time) bool {
	return shouldRun(i) && i.ServerStatus == trove.ServerActive && i.Guest.Service == trove.ServiceShutdown && !i.Silent(now) && !i.BackingUp
}

// verdict is what is to be done about a database that is down.
type verdict int

const (
	leaveIt verdict = iota
	startIt
	giveUp
)

// ReconcileOne asks for the start of a database that was seen down for a while and that nobody wanted stopped.
func (l *LeftStopped) ReconcileOne(ctx context.Context, id string) error {
	now := l.cfg.Clock.Now()
	_, what, err := l.judge(ctx, l.cfg.Store, id, now)
	if err == nil && what == startIt {
		what, err = l.startWhole(ctx, id, now)
	}
	switch {
	case errors.Is(err, store.ErrBusy):
		return nil // it is at work
	case trove.IsNotFound(err):
		l.forget(id)
		return nil
	case err != nil:
		return fmt.Errorf("start the database of %s again: %w", id, err)
	case what == startIt:
		l.forget(id)
		l.cfg.Log.WarnContext(ctx, "database was left stopped by an operation that failed, and is started", "instance", id)
		l.cfg.Wake()
	case what == giveUp && l.say(id):
		return say(ctx, l.cfg, id, trove.EventEngineDown, fmt.Sprintf(
			"The database was left stopped by an operation that failed, and could not be started %d times. It is not tried again: restart the instance.", len(startPauses)))
	}
	return nil
}

// judge reads an instance and says what is to be done about its database.
func (l *LeftStopped) judge(ctx context.Context, r store.Reader, id string, now time.Time) (i trove.Instance, what verdict, err error) {
	if i, err = r.Instance(ctx, id); err != nil {
		return i, leaveIt, err //nolint:wrapcheck // the caller wraps
	}
	if !isDown(&i, now) {
		l.forget(id)
		return i, leaveIt, nil
	}
	if since := l.note(id, now); now.Sub(since) < downAfter {
		return i, leaveIt, nil
	}
	switch tries, last, err := leftBy(ctx, r, id); {
	case err != nil || last.IsZero():
		return i, leaveIt, err
	case tries >= len(startPauses):
		return i, giveUp, nil
	case now.Sub(last) < startPauses[tries]:
		return i, leaveIt, nil
	}
	return i, startIt, nil
}

// startWhole asks for the start, if the data is what it shall be started on, and nobody did anything meanwhile.
func (l *LeftStopped) startWhole(ctx context.Context, id string, now time.Time) (what verdict, err error) {
	if whole, err := l.whole(ctx, id); err != nil || !whole {
		return leaveIt, err
	}
	err = l.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		var i trove.Instance
		if i, what, err = l.judge(ctx, tx, id, now); err != nil || what != startIt {
			return err
		}
		return l.start(ctx, tx, &i, now)
	})
	return what, err //nolint:wrapcheck // the caller wraps
}

// start asks for a restart, as users do.
func (l *LeftStopped) start(ctx context.Context, tx store.Tx, i *trove.Instance, now time.Time) error {
	_, err := workflow.Enqueue(ctx, tx, now, workflow.Request{
		Kind: trove.OpRestart, Target: i.ID, ProjectID: i.ProjectID, RequestID: telemetry.NewRequestID(), Input: trove.RestartInput{LeftStopped: true},
	})
	if err != nil {
		return err //nolint:wrapcheck // the caller wraps
	}
	err = tx.UpdateInstance(ctx, i.ID, now, func(i *trove.Instance) error {
		i.Task = trove.TaskRebooting
		return nil
	})
	if err != nil {
		return err //nolint:wrapcheck // the caller wraps
	}
	return tx.AppendInstanceEvent(ctx, trove.InstanceEvent{ //nolint:wrapcheck // the caller wraps
		InstanceID: i.ID, At: now, Kind: trove.EventEngineLeft,
		Sentence: "The database was left stopped by an operation that failed, and is started again.",
	})
}

// leftBy returns when the last operation of an instance ended whose database was stopped by one that did not come to its end, and how many restarts have failed
// since; the zero time if the database is down for another reason: somebody wanted it.
func leftBy(ctx context.Context, r store.Reader, id string) (tries int, last time.Time, err error) {
	ops, err := r.Operations(ctx, id, lookBack)
	if err != nil {
		return 0, last, err //nolint:wrapcheck // the caller wraps
	}
	for n := range ops {
		o := &ops[n]
		if o.State == trove.OperationOpen {
			return 0, time.Time{}, nil
		}
		if o.Updated.After(last) {
			last = o.Updated
		}
		switch o.Kind {
		case trove.OpRestart:
			if o.State == trove.OperationDone {
				return 0, time.Time{}, nil
			}
			tries++
		case trove.OpStop, trove.OpStopEngine, trove.OpReboot, trove.OpRebuild, trove.OpMigrate, trove.OpUpgrade, trove.OpUpgradeRollback:
			if o.State == trove.OperationDone {
				return 0, time.Time{}, nil
			}
			if stopped, err := begun(ctx, r, o.ID, "engine"); err != nil || stopped {
				return tries, last, err
			}
		case trove.OpCreate, trove.OpStart:
			return 0, time.Time{}, nil
		}
	}
	return 0, time.Time{}, nil
}

// begun reports whether an operation came to a step.
func begun(ctx context.Context, r store.Reader, operation, step string) (bool, error) {
	events, err := r.OperationLog(ctx, operation, 0)
	if err != nil {
		return false, err //nolint:wrapcheck // the caller wraps
	}
	for n := range events {
		if events[n].Step == step {
			return true, nil
		}
	}
	return false, nil
}

// whole reports whether the database may be started on the data that is there. It may not while the only whole data is kept aside, or while the machine has the
// image that belongs to the kept data.
func (l *LeftStopped) whole(ctx context.Context, id string) (bool, error) {
	k, err := l.cfg.Store.KeptData(ctx, id)
	if trove.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err //nolint:wrapcheck // the caller wraps
	}
	i, err := l.cfg.Store.Instance(ctx, id)
	if err != nil || k.Only(&i) {
		return false, err //nolint:wrapcheck // the caller wraps
	}
	v, err := l.cfg.Store.DatastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return false, err //nolint:wrapcheck // the caller wraps
	}
	mc, err := l.cfg.Cloud.FindMachine(ctx, id)
	if err != nil {
		return false, err //nolint:wrapcheck // the caller wraps
	}
	return mc.ImageID != k.ImageID || mc.ImageID == v.ImageID, nil
}

// note remembers since when the database is seen down.
func (l *LeftStopped) note(id string, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, seen := l.seen[id]
	if !seen {
		d.since = now
		l.seen[id] = d
	}
	return d.since
}

// say reports, once, that something is to be said of a database that is down.
func (l *LeftStopped) say(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.seen[id]
	due := !d.said
	d.said = true
	l.seen[id] = d
	return due
}

func (l *LeftStopped) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, id)
}
