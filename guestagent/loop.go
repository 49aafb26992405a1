package guestagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent/process"
)

var errNotReady = errors.New("the engine did not get ready in time")

type phase int

const (
	phaseDown phase = iota
	phaseStarting
	phaseUp
	phaseStopping
)

// loop is the state that Supervisor.Run owns.
type loop struct {
	s    *Supervisor
	work sync.WaitGroup // probes and the watch of the process

	phase   phase
	want    bool            // the engine shall be up
	handle  *process.Handle // nil: no process
	child   *exec.Cmd       // nil: adopted
	exited  chan struct{}   // closed when the process has ended; nil: no process
	log     *engineLog
	notify  bool // the engine announces its readiness, and has not yet
	crashed bool // it ended by itself and has not been up since
	failed  int  // pings without an answer in a row

	stopNext bool      // it is to be stopped as soon as it is ready
	stopBy   time.Time // when an engine that does not stop is killed
	backoff  time.Duration
	upSince  time.Time
	timer    *time.Timer

	notes    chan note
	probes   chan probeAnswer // of the one running probe
	probing  bool
	starters []chan error // who waits for up
	stoppers []chan error // who waits for down
}

// probeAnswer is what an engine answered, and which process was asked.
type probeAnswer struct {
	of  *process.Handle
	err error
}

func newLoop(s *Supervisor) *loop {
	l := &loop{s: s, notes: make(chan note), probes: make(chan probeAnswer, 1), timer: time.NewTimer(time.Hour), log: newEngineLog(s.layout.State, "")}
	l.timer.Stop()
	return l
}

func (l *loop) run(ctx context.Context) {
	probes, cancel := context.WithCancel(ctx)
	l.begin(probes)
	for ctx.Err() == nil {
		l.publish("")
		select {
		case <-ctx.Done():
		case r := <-l.s.requests:
			l.request(probes, r)
		case <-l.s.poked:
		case <-l.exited:
			l.ended(probes)
		case n := <-l.notes:
			l.noted(probes, n)
		case a := <-l.probes:
			l.probing = false
			l.probed(ctx, a)
		case <-l.timer.C:
			l.due(probes)
		}
	}
	cancel()
	l.timer.Stop()
	l.answer(&l.starters, context.Cause(ctx))
	l.answer(&l.stoppers, context.Cause(ctx))
	if l.handle != nil {
		_ = l.handle.Close()
	}
	l.work.Wait()
}

// begin adopts the engine that an earlier agent left, or starts it if it shall run.
func (l *loop) begin(ctx context.Context) {
	want := l.s.intention()
	if h := l.s.find(ctx); h != nil {
		l.s.log.InfoContext(ctx, "engine was adopted", "pid", h.PID)
		l.hold(h, nil)
		l.want = true
		l.phase = phaseStarting // whether it was ready is not known: it is asked
		if c, err := l.s.engine.Command(l.s.layout); err == nil {
			l.log = newEngineLog(l.s.layout.State, c.LogFile)
			l.s.setOwnLog(c.LogFile)
		}
		if want.Prepared && want.Stopped {
			l.stop(ctx)
			return
		}
		l.timer.Reset(0)
		return
	}
	if want.Prepared && !want.Stopped {
		l.want = true
		l.start(ctx)
	}
}

// hold makes the process the loop's own.
func (l *loop) hold(h *process.Handle, child *exec.Cmd) {
	l.handle, l.child, l.exited = h, child, make(chan struct{})
	exited := l.exited
	l.work.Go(func() {
		if h.Watch() {
			close(exited)
		}
	})
}

func (l *loop) request(ctx context.Context, r request) {
	l.want = r.up
	if r.up {
		switch l.phase {
		case phaseUp:
			r.done <- nil
			return
		case phaseDown:
			l.starters = append(l.starters, r.done)
			l.crashed, l.backoff = false, 0
			l.start(ctx)
			return
		}
		l.starters = append(l.starters, r.done)
		return
	}
	l.answer(&l.starters, trove.Errorf(trove.KindConflict, "The database was stopped while it was being started."))
	if l.phase == phaseDown {
		l.crashed = false
		l.timer.Stop()
		r.done <- nil
		return
	}
	l.stoppers = append(l.stoppers, r.done)
	l.stop(ctx)
}

// stop asks the engine to end. One that is starting has a moment to get ready before: MariaDB, asked in its first moments, neither starts nor stops
// any more.
func (l *loop) stop(ctx context.Context) {
	if l.phase == phaseStopping {
		return
	}
	l.want = false
	if l.phase == phaseStarting && l.s.clock.Now().Sub(l.handle.Began) < l.s.times.StopAfterStart {
		l.stopNext = true
		l.probe(ctx)
		return
	}
	l.stopNext = false
	l.phase = phaseStopping
	l.stopBy = l.s.clock.Now().Add(l.s.engine.Info().StopTimeout)
	l.askToStop(ctx)
}

// askToStop asks, and again after a while: a server that has just been started hears no signal before it has come so far, and one that is stopping does
// not mind.
func (l *loop) askToStop(ctx context.Context) {
	if err := l.handle.Signal(stopSignal(l.s.engine)); err != nil && !errors.Is(err, process.ErrGone) {
		l.s.log.ErrorContext(ctx, "engine could not be asked to stop", "err", err)
	}
	l.timer.Reset(min(l.s.times.PingOther, l.stopBy.Sub(l.s.clock.Now())))
}

// stopSignal is what the engine takes for a wish to end.
func stopSignal(e engine.Engine) unix.Signal {
	if s := e.Info().StopSignal; s != 0 {
		return s
	}
	return unix.SIGTERM
}

// due is called when the timer fires: what for depends on the phase.
func (l *loop) due(ctx context.Context) {
	switch l.phase {
	case phaseDown:
		if l.want {
			l.start(ctx)
		}
	case phaseStarting, phaseUp:
		if l.stopNext && l.s.clock.Now().Sub(l.handle.Began) >= l.s.times.StopAfterStart {
			l.stop(ctx)
			return
		}
		l.probe(ctx)
	case phaseStopping:
		if l.s.clock.Now().Before(l.stopBy) {
			l.askToStop(ctx)
			return
		}
		l.s.log.WarnContext(ctx, "engine did not stop in time and was killed", "pid", l.handle.PID)
		if err := l.handle.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			l.s.log.ErrorContext(ctx, "engine could not be killed", "err", err)
		}
		l.timer.Reset(l.s.times.PingOther)
	}
}

func (l *loop) noted(ctx context.Context, n note) {
	if l.phase != phaseStarting || l.handle == nil || !n.ready {
		return
	}
	if sid, err := unix.Getsid(n.pid); n.pid != l.handle.PID && (err != nil || sid != l.handle.PID) {
		return // of an engine before this one
	}
	l.notify = false
	l.probe(ctx)
}

// probe asks the engine in the background; at most one question is open.
func (l *loop) probe(ctx context.Context) {
	if l.probing {
		return
	}
	l.probing = true
	starting, of := l.phase == phaseStarting, l.handle
	l.work.Go(func() { l.probes <- probeAnswer{of: of, err: l.s.question(ctx, starting)} })
}

func (s *Supervisor) question(ctx context.Context, starting bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.times.PingTimeout)
	defer cancel()
	if !starting {
		return s.engine.Ping(ctx, s.layout)
	}
	if err := s.engine.Ping(ctx, s.layout); err != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The database does not answer yet.")
	}
	if err := s.engine.Ready(ctx, s.layout); err != nil {
		return fmt.Errorf("make the engine ready: %w", err)
	}
	return nil
}

// probed takes the answer to a question.
func (l *loop) probed(ctx context.Context, a probeAnswer) {
	err := a.err
	if a.of != l.handle {
		err = trove.Errorf(trove.KindUnavailable, "The process that was asked has ended.")
	}
	switch l.phase {
	case phaseStarting:
		l.probedStarting(ctx, err)
	case phaseUp:
		if boundErr := l.log.bound(); boundErr != nil {
			l.s.log.WarnContext(ctx, "engine log could not be cut", "err", boundErr)
		}
		if boundErr := boundLogs(ctx, l.s.engine, l.s.layout); boundErr != nil {
			l.s.log.WarnContext(ctx, "engine log could not be cut", "err", boundErr)
		}
		if err == nil {
			l.failed = 0
			l.timer.Reset(l.s.times.PingHealthy)
			return
		}
		l.failed++
		if l.failed == blockedAfter {
			l.s.log.WarnContext(ctx, "engine did not answer", "err", err)
		}
		l.timer.Reset(l.s.times.PingOther)
	}
}

// blockedAfter is how many pings in a row must go unanswered until a live engine counts as blocked.
const blockedAfter = 2

func (l *loop) probedStarting(ctx context.Context, err error) {
	if err == nil {
		l.phase, l.failed, l.crashed = phaseUp, 0, false
		l.upSince = l.s.clock.Now()
		l.timer.Reset(l.s.times.PingHealthy)
		l.s.log.InfoContext(ctx, "engine got ready", "pid", l.handle.PID, "took", l.upSince.Sub(l.handle.Began))
		l.publish("")
		if l.stopNext { // who asked for a start since then gets it afterwards
			l.stop(ctx)
			return
		}
		l.answer(&l.starters, nil)
		return
	}
	if trove.KindOf(err) != trove.KindUnavailable && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		l.s.log.ErrorContext(ctx, "engine is up and not usable", "err", err)
		l.answer(&l.starters, trove.Wrap(trove.KindInternal, err, "%s", l.evidence("The database started and is not usable.")))
		l.timer.Reset(l.s.times.PingOther)
		return
	}
	l.timer.Reset(l.nextStartPoll())
}

// nextStartPoll is when a starting engine is asked again: often if it does not announce itself, more and more seldom the longer it takes.
func (l *loop) nextStartPoll() time.Duration {
	if l.notify {
		return l.s.times.PingOther
	}
	age := l.s.clock.Now().Sub(l.handle.Began)
	return min(max(l.s.times.StartPoll, age/10), l.s.times.PingOther)
}

// publish sets what others see.
func (l *loop) publish(event string) {
	v := Service{Status: l.status(), Up: l.phase == phaseUp, Known: true}
	if l.handle != nil {
		v.PID, v.Start = l.handle.PID, l.handle.Began
	}
	l.s.note(v, event)
}

func (l *loop) status() trove.ServiceStatus {
	l.s.mu.Lock()
	prepared, restarts := l.s.intent.Prepared, l.s.restarts
	l.s.mu.Unlock()
	switch {
	case !prepared:
		return trove.ServiceBuilding
	case l.phase == phaseUp && l.failed >= blockedAfter:
		return trove.ServiceBlocked
	case l.phase == phaseUp:
		return trove.ServiceHealthy
	case restarts:
		return trove.ServiceRestarting
	case l.crashed:
		return trove.ServiceCrashed
	case l.phase == phaseStarting:
		return trove.ServiceRunning
	}
	return trove.ServiceShutdown
}

func (l *loop) answer(waiters *[]chan error, err error) {
	for _, w := range *waiters {
		w <- err
	}
	*waiters = nil
}

func (l *loop) evidence(text string) string {
	if lines := l.log.evidence(); lines != "" {
		return text + " Its log ends with:\n" + lines
	}
	return text
}

var _ slog.LogValuer = phase(0)

// LogValue shows the phase in words.
func (p phase) LogValue() slog.Value {
	return slog.StringValue([...]string{"down", "starting", "up", "stopping"}[p])
}
