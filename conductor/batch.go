package conductor

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// flushTimeout bounds the last write of a conductor that stops.
const flushTimeout = 5 * time.Second

// A batch that cannot be written is tried so often, with so much time in between; then it is dropped, and guests say it again.
const (
	flushTries = 3
	flushPause = 500 * time.Millisecond
)

// stateLife is how long the state of a guest that is not heard of is kept.
const stateLife = 5 * time.Minute

// batch is what is written in one transaction: the latest heartbeat of each guest, and everything else in the order in which it came.
type batch struct {
	beats   map[string]store.GuestReport
	changed map[string]struct{} // instances whose heartbeat says something new
	events  []happened
	hellos  []report
	back    map[string]string // releases of the agent that guests say were taken back
	reports []store.Report
	signals map[string]struct{} // instances whose operation may have waited for this
	urgent  bool
}

func newBatch() *batch {
	return &batch{beats: map[string]store.GuestReport{}, changed: map[string]struct{}{}, signals: map[string]struct{}{}, back: map[string]string{}}
}

func (b *batch) size() int   { return len(b.beats) + len(b.hellos) + len(b.reports) }
func (b *batch) empty() bool { return b.size() == 0 }

func (b *batch) reset() {
	clear(b.beats)
	clear(b.changed)
	clear(b.signals)
	clear(b.back)
	b.hellos, b.events, b.reports, b.urgent = nil, nil, nil, false
}

// signal says that somebody may wait for this, so that the batch is written at once.
func (b *batch) signal(instance string) {
	b.signals[instance] = struct{}{}
	b.urgent = true
}

// add sorts a report into the batch.
func (d *Conductor) add(b *batch, r report) {
	switch r.kind {
	case guestapi.ReportHello:
		b.hellos = append(b.hellos, r)
		b.back[r.instance] = r.hello.TakenBack
		b.signal(r.instance)
	case guestapi.ReportHeartbeat:
		now := state{service: r.beat.Service, bootID: r.beat.BootID, engineStart: r.beat.EngineStart, agentStart: r.beat.AgentStart, agent: r.beat.AgentVersion}
		b.back[r.instance] = r.beat.TakenBack
		before := d.known[r.instance]
		before.at = time.Time{}
		if before != now {
			b.changed[r.instance] = struct{}{}
			b.signal(r.instance)
		}
		now.at = r.at
		d.known[r.instance] = now
		if r.beat.Event != "" {
			b.events = append(b.events, happened{instance: r.instance, at: r.at, name: r.beat.EventAt, text: r.beat.Event, kind: r.beat.EventKind})
			b.urgent = true
		}
		b.beats[r.instance] = store.GuestReport{
			InstanceID: r.instance, SeenAt: r.at, BootID: r.beat.BootID, Service: r.beat.Service, AgentVersion: r.beat.AgentVersion,
			EngineStart: r.beat.EngineStart, VolumeUsed: r.beat.VolumeUsed, VolumeTotal: r.beat.VolumeTotal,
			AgentStart: r.beat.AgentStart,
		}
	case guestapi.ReportProgress, guestapi.ReportEnd:
		b.reports = append(b.reports, storeReport(r))
		b.signal(r.instance)
	}
}

func storeReport(r report) store.Report {
	s := store.Report{
		OperationID: r.status.ID, InstanceID: r.instance, At: r.at, Done: r.kind == guestapi.ReportEnd,
		Sentence: r.status.Sentence, Percent: r.status.Percent, Result: r.status.Result,
	}
	if r.status.Error != nil {
		s.Error, s.ErrorKind = r.status.Error.Message, r.status.Error.Kind
		if s.Error == "" {
			s.Error = "The guest gave no reason."
		}
	}
	return s
}

// flush writes the batch and empties it. When ctx ends meanwhile the batch stays as it is: Run writes it then.
func (d *Conductor) flush(ctx context.Context, b *batch) {
	if b.empty() {
		return
	}
	for try := 1; ; try++ {
		began := d.cfg.Clock.Now()
		woken, err := d.commit(ctx, b)
		if err == nil {
			d.metrics.written(b, d.cfg.Clock.Now().Sub(began))
			if woken {
				d.wake(ctx)
			}
			break
		}
		if ctx.Err() != nil {
			return
		}
		d.cfg.Log.ErrorContext(ctx, "reports were not written", "reports", b.size(), "err", err)
		if try < flushTries && clock.Sleep(ctx, flushPause) != nil {
			return
		}
		if try == flushTries {
			d.metrics.dropped.WithLabelValues("store").Add(float64(b.size()))
			for id := range b.beats {
				delete(d.known, id) // so that the next one is written at once
			}
			break
		}
	}
	b.reset()
	d.forget()
}

// commit writes the batch in one transaction and reports whether an operation was made due.
func (d *Conductor) commit(ctx context.Context, b *batch) (woken bool, err error) {
	err = d.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		// Heartbeats first: they say more, and a hello after them finds nothing new.
		if err := d.beats(ctx, tx, b); err != nil {
			return err
		}
		if err := d.hellos(ctx, tx, b); err != nil {
			return err
		}
		for _, r := range b.reports {
			if err := d.operation(ctx, tx, r); err != nil {
				return err
			}
		}
		woken = len(b.signals) > 0
		for id := range b.signals {
			if err := tx.SignalOperation(ctx, id, d.cfg.Clock.Now()); err != nil && !trove.IsNotFound(err) {
				return err //nolint:wrapcheck // wrapped below
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("write reports: %w", err)
	}
	return woken, nil
}

// beats records heartbeats and what they say that happened.
func (d *Conductor) beats(ctx context.Context, tx store.Tx, b *batch) error {
	same := make([]store.GuestReport, 0, len(b.beats))
	for id, r := range b.beats {
		if _, changed := b.changed[id]; !changed {
			same = append(same, r)
		} else if err := d.recordBeat(ctx, tx, r, b.back[id]); err != nil {
			return err
		}
	}
	if err := tx.RecordReports(ctx, same); err != nil {
		return err //nolint:wrapcheck // commit wraps
	}
	for _, h := range b.events {
		if err := d.event(ctx, tx, h); err != nil {
			return err
		}
	}
	return nil
}

// hellos records guests that have connected. A hello says nothing of the service: what is known of it stays. A guest that only lost its
// connection changes nothing.
func (d *Conductor) hellos(ctx context.Context, tx store.Tx, b *batch) error {
	for _, r := range b.hellos {
		i, err := tx.Instance(ctx, r.instance)
		if trove.IsNotFound(err) {
			d.metrics.drop("unknown")
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // commit wraps
		}
		g := i.Guest
		if g.BootID == r.hello.BootID && g.AgentVersion == r.hello.AgentVersion && !g.SeenAt.IsZero() {
			continue
		}
		if err := tx.RecordReports(ctx, []store.GuestReport{{
			InstanceID: r.instance, SeenAt: r.at, BootID: r.hello.BootID, Service: g.Service, AgentVersion: r.hello.AgentVersion,
			VolumeUsed: g.VolumeUsed, VolumeTotal: g.VolumeTotal, AgentStart: r.hello.AgentStart,
		}}); err != nil {
			return err //nolint:wrapcheck // commit wraps
		}
		after := g
		after.BootID, after.AgentVersion, after.AgentStart = r.hello.BootID, r.hello.AgentVersion, r.hello.AgentStart
		if err := d.changes(ctx, tx, change{r.instance, r.at, g, after, b.back[r.instance]}); err != nil {
			return err
		}
		d.cfg.Log.InfoContext(ctx, "guest said hello", "instance", r.instance, "engine", r.hello.Engine, "agent", r.hello.AgentVersion)
	}
	return nil
}

// operation writes what a guest said of a command, if it is the one that the instance's open operation waits for: a guest can
// fill no table with commands that nobody gave.
func (d *Conductor) operation(ctx context.Context, tx store.Tx, r store.Report) error {
	open, err := tx.OpenOperation(ctx, r.InstanceID)
	switch id, step, _ := strings.Cut(r.OperationID, "/"); {
	case trove.IsNotFound(err), err == nil && (id != open.ID || strings.TrimSuffix(step, "-undo") != open.Step):
		d.metrics.drop("unknown")
		return nil
	case err != nil:
		return err //nolint:wrapcheck // commit wraps
	}
	err = tx.PutReport(ctx, r)
	if trove.IsPermanent(err) {
		d.metrics.drop("forbidden")
		d.cfg.Log.WarnContext(ctx, "report was refused", "guest", r.InstanceID, "op", r.OperationID, "err", err)
		return nil
	}
	return err //nolint:wrapcheck // commit wraps
}

// wake tells the taskmanagers that an operation may be due. They find it by polling as well.
func (d *Conductor) wake(ctx context.Context) {
	if d.cfg.Wake != nil {
		d.cfg.Wake()
		return
	}
	if err := d.cfg.Conn.Publish(ctx, guestapi.WakeSubject, nil); err != nil {
		d.cfg.Log.DebugContext(ctx, "taskmanagers were not woken", "err", err)
	}
}

// forget drops the states of guests that are gone, when there are many.
func (d *Conductor) forget() {
	const worthIt = 1024
	if len(d.known) < worthIt || len(d.known) < 2*d.metrics.kept {
		return
	}
	now := d.cfg.Clock.Now()
	maps.DeleteFunc(d.known, func(_ string, s state) bool { return now.Sub(s.at) > stateLife })
	d.metrics.kept = len(d.known)
}
