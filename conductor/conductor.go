// Package conductor is the only writer of what guests report: heartbeats, hellos, progress and ends of long commands.
//
// Who a guest is comes from the subject of its report, never from the payload; a guest that says more than its budget is not read, so that
// one that floods delays nobody for long. Unchanged heartbeats are written in batches, everything that somebody may wait for at once,
// together with what has come in until then. The conductor never answers a guest: a reply subject could be another guest's.
//
// Nothing is lost for good when a report is: heartbeats come again, ends are sent again until they are acknowledged, and steps look by timer.
// Several conductors share the reports of a fleet; a Conductor runs once.
package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// The limits of a batch: it is written when it has so many guests, or when its oldest report is so old.
const (
	maxBatch = 500
	maxAge   = time.Second
)

// queueLength is how many reports may wait for the writer; what comes beyond is dropped and counted. Reports of 10,000 guests that all start at
// once fit.
const queueLength = 16384

// Config is what a Conductor works with.
type Config struct {
	Store   store.Store
	Conn    bus.Conn // for reports only: a flood on it must not delay requests
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none
	// Wake is called after a commit that an operation may wait for. nil: guestapi.WakeSubject is published.
	Wake func()
	// Burst and PerSecond are how many reports a guest may send at once, and a second in the long run; 0: 100 and 5.
	Burst, PerSecond int
}

// Conductor writes what guests report.
type Conductor struct {
	cfg     Config
	queue   chan report
	budgets budgets // used by the subscription's handler only, which runs one message at a time
	known   map[string]state
	metrics metrics
	// No agent sends malformed reports, so the first ones are worth a line each; a guest that makes many must not fill the log.
	malformed rate.Sometimes
}

// report is one parsed report.
type report struct {
	instance string
	at       time.Time
	kind     guestapi.ReportKind
	hello    guestapi.Hello
	beat     guestapi.Heartbeat
	status   guestapi.OperationStatus
}

// state is what makes a heartbeat one that tells nothing new.
type state struct {
	service     trove.ServiceStatus
	bootID      string
	engineStart int64
	agentStart  int64
	agent       string
	at          time.Time
}

// New makes a Conductor. It subscribes to nothing before Run.
func New(c Config) (*Conductor, error) {
	if c.Store == nil || c.Conn == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("conductor: store, connection, clock and log are needed")
	}
	d := &Conductor{
		cfg: c, queue: make(chan report, queueLength), budgets: newBudgets(c.Burst, c.PerSecond), known: map[string]state{}, metrics: newMetrics(),
		malformed: rate.Sometimes{First: 20, Interval: time.Second},
	}
	if c.Metrics != nil {
		if err := d.metrics.register(c.Metrics); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return d, nil
}

// Run receives reports until the context ends, writes what has come in by then, and returns nil.
func (d *Conductor) Run(ctx context.Context) error {
	stop, err := d.cfg.Conn.Subscribe(ctx, guestapi.AllReports, guestapi.QueueConductor, d.receive)
	if err != nil {
		return fmt.Errorf("subscribe to the reports of guests: %w", err)
	}
	b := newBatch()
	d.write(ctx, b)
	stop()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	for {
		select {
		case r := <-d.queue:
			d.add(b, r)
			continue
		default:
		}
		break
	}
	d.flush(last, b)
	if !b.empty() {
		d.cfg.Log.ErrorContext(ctx, "reports were not written before the end", "reports", b.size())
		d.metrics.dropped.WithLabelValues("store").Add(float64(b.size()))
	}
	return nil
}

// receive handles one message. It must be quick: it is the one place that all guests pass.
func (d *Conductor) receive(ctx context.Context, m bus.Message) {
	instance, kind, ok := guestapi.ParseReportSubject(m.Subject)
	if !ok {
		d.metrics.drop("subject")
		return
	}
	now := d.cfg.Clock.Now()
	if !d.budgets.take(instance, now) {
		d.metrics.drop("budget")
		return
	}
	r, err := parse(kind, m.Data)
	if err != nil {
		d.metrics.drop("malformed")
		d.malformed.Do(func() {
			d.cfg.Log.WarnContext(ctx, "malformed report was dropped", "guest", instance, "err", err)
		})
		return
	}
	d.metrics.received.WithLabelValues(string(r.kind)).Inc()
	r.instance, r.at = instance, now
	select {
	case d.queue <- r:
	default:
		d.metrics.drop("queue")
	}
}

// parse reads the payload of a report of the given kind. What it returns is checked: it can be written as it is.
func parse(kind guestapi.ReportKind, data []byte) (r report, err error) {
	r.kind = kind
	switch kind {
	case guestapi.ReportHello:
		r.hello, err = guestapi.ParseHello(data)
	case guestapi.ReportHeartbeat:
		r.beat, err = guestapi.ParseHeartbeat(data)
	case guestapi.ReportProgress, guestapi.ReportEnd:
		r.status, err = guestapi.ParseOperationStatus(data)
		if err == nil && (kind == guestapi.ReportEnd) == (r.status.State == guestapi.StateRunning) {
			err = trove.Errorf(trove.KindBadRequest, "A report of kind %s has the state %s.", kind, r.status.State)
		}
	default:
		err = trove.Errorf(trove.KindBadRequest, "There is no report of kind %q.", kind)
	}
	return r, err //nolint:wrapcheck // says what is wrong
}

// write collects reports and writes them when it is time, until the context ends.
func (d *Conductor) write(ctx context.Context, b *batch) {
	timer := time.NewTimer(maxAge)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-d.queue:
			if b.empty() {
				timer.Reset(maxAge)
			}
			d.add(b, r)
			d.drain(b)
			if !b.urgent && b.size() < maxBatch {
				continue
			}
		case <-timer.C:
		}
		timer.Stop()
		d.flush(ctx, b)
	}
}

// drain adds what waits already, so that one commit carries it all.
func (d *Conductor) drain(b *batch) {
	for b.size() < maxBatch {
		select {
		case r := <-d.queue:
			d.add(b, r)
		default:
			return
		}
	}
}
