package guestagent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Timings are the supervisor's and the reporter's times. The zero value of a field is its default.
type Timings struct {
	Heartbeat time.Duration // between heartbeats; 10 s
	// Progress is how long progress waits for newer progress, or for the end: each report is written to the store and wakes whoever follows the
	// command, on a machine that is just starting a database. 250 ms; below 0 it does not wait.
	Progress     time.Duration
	PingHealthy  time.Duration // between pings of a healthy engine; 10 s
	PingOther    time.Duration // between pings of one that is not; 2 s
	PingTimeout  time.Duration // of one ping; 5 s
	StartPoll    time.Duration // between pings of a starting engine that does not announce its readiness; 100 ms
	StartTimeout time.Duration // how long a command waits for the engine to get ready; 5 min
	// StopAfterStart is how long an engine that is starting has to get ready before it is asked to stop; 10 s.
	StopAfterStart time.Duration
	BackoffMin     time.Duration // before the first restart after a crash; 1 s
	BackoffMax     time.Duration // before a later one; 30 s
	BackoffReset   time.Duration // an engine that was up for so long begins with BackoffMin again; 60 s
	ResendMin      time.Duration // before the end of a command is sent again for the first time; 5 s
	ResendMax      time.Duration // between later ones; 5 min
	Drift          time.Duration // between looks for parameters that somebody changed; 5 min
	KeepLogs       time.Duration // between fetches of logs that the engine keeps in its memory; 10 s
	GrowTimeout    time.Duration // how long grow waits for the file system to be as large as asked for; 60 s
}

func (t Timings) withDefaults() Timings {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Heartbeat, 10*time.Second)
	set(&t.Progress, 250*time.Millisecond)
	set(&t.PingHealthy, 10*time.Second)
	set(&t.PingOther, 2*time.Second)
	set(&t.PingTimeout, 5*time.Second)
	set(&t.StartPoll, 100*time.Millisecond)
	set(&t.StartTimeout, 5*time.Minute)
	set(&t.StopAfterStart, 10*time.Second)
	set(&t.BackoffMin, time.Second)
	set(&t.BackoffMax, 30*time.Second)
	set(&t.BackoffReset, 60*time.Second)
	set(&t.ResendMin, 5*time.Second)
	set(&t.ResendMax, 5*time.Minute)
	set(&t.GrowTimeout, 60*time.Second)
	set(&t.Drift, 5*time.Minute)
	set(&t.KeepLogs, 10*time.Second)
	return t
}

// The files of a guest's runtime directory that package guestinit reads too.
const (
	PIDFile         = "engine.pid"          // process.Ref of the engine
	StopTimeoutFile = "engine.stop-timeout" // how long it may take to stop, as time.Duration prints it
	StopSignalFile  = "engine.stop-signal"  // the number of the signal that asks it to stop
	StoppingFile    = "stopping"            // made when the machine is being stopped: the engine is not to be started again
	notifyFile      = "notify"
)

// Service is what the supervisor knows of the engine.
type Service struct {
	Status trove.ServiceStatus
	PID    int       // 0: no process
	Start  time.Time // of the process; zero: no process
	Up     bool      // it got ready and has not ended since: it may be asked
	Known  bool      // it was looked for since this agent began
}

// Supervisor keeps one engine in the state that it shall be in. Between "new" and the first prepare it does nothing.
//
//	          Start              ready             no answer
//	down ───────────► starting ─────────► healthy ◄─────────► blocked
//	 ▲ ▲                 │                   │                   │
//	 │ └── back-off ── crashed ◄─────────────┴───── it ended ────┘
//	 └──────────────────────── Stop ──── stopping ◄── from all of these
//
// One goroutine, Run, owns the process; the methods ask it.
type Supervisor struct {
	engine  engine.Engine
	layout  engine.Layout
	times   Timings
	clock   clock.Clock
	log     *slog.Logger
	runtime string

	requests chan request
	poked    chan struct{} // something that the view is made of has changed
	changed  chan struct{}

	mu       sync.Mutex
	view     Service
	intent   intent
	restarts bool // a restart command is under way: the engine is down on purpose for a moment
	events   []event
	ownLog   string // the engine's own log file
}

// event is something that happened.
type event struct {
	kind string // one of the domain's, "" for a failure of the engine
	text string
	at   int64 // when, in microseconds; no two are the same
	sent int
}

// eventSends is how often an event is sent: any message may be lost once, and a controller that is just being replaced loses a few.
const eventSends = 3

// maxEvents is how many unreported events are kept; of more the oldest are dropped.
const maxEvents = 8

// NewSupervisor reads what the engine shall do. It has no effect before Run.
func NewSupervisor(e engine.Engine, l engine.Layout, t Timings, c clock.Clock, log *slog.Logger) (*Supervisor, error) {
	want, err := readIntent(l.State)
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		engine: e, layout: l, times: t.withDefaults(), clock: c, log: log, runtime: l.Runtime,
		requests: make(chan request), poked: make(chan struct{}, 1), changed: make(chan struct{}, 1), intent: want,
	}
	s.view.Status = trove.ServiceBuilding
	if want.Prepared {
		s.view.Status = trove.ServiceShutdown
	}
	return s, nil
}

// request is what a method asks of Run.
type request struct {
	up   bool // start or stop
	done chan error
}

// Run supervises until ctx ends and leaves the engine running then.
func (s *Supervisor) Run(ctx context.Context) error {
	socket, err := listenNotify(filepath.Join(s.runtime, notifyFile), s.layout.UID, s.layout.GID, s.log)
	if err != nil {
		return err
	}
	l := newLoop(s)
	var readers sync.WaitGroup
	readers.Go(func() { socket.serve(ctx, l.notes) })
	defer readers.Wait()
	defer socket.close()
	l.run(ctx)
	return nil
}

// Service returns what is known of the engine.
func (s *Supervisor) Service() Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// Changed delivers after each change of the service and each event; several may be delivered as one.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

// Event returns the event that was sent least often, the oldest of them, and what names it; "" if there is none. The kind
// is "" for a failure of the engine.
func (s *Supervisor) Event() (text string, at int64, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var least *event
	for n := range s.events {
		if e := &s.events[n]; least == nil || e.sent < least.sent {
			least = e
		}
	}
	if least == nil {
		return "", 0, ""
	}
	return least.text, least.at, least.kind
}

// Sent notes that an event was sent, and reports whether there is one that was not yet. Nobody answers a heartbeat: an event is sent with several
// of them, and whoever reads knows it by its name.
func (s *Supervisor) Sent(at int64) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.events {
		if s.events[n].at == at {
			s.events[n].sent++
		}
		more = more || s.events[n].sent == 0
	}
	s.events = slices.DeleteFunc(s.events, func(e event) bool { return e.sent >= eventSends })
	return more
}

// Prepared reports whether prepare came to its end once.
func (s *Supervisor) Prepared() bool { return s.intention().Prepared }

func (s *Supervisor) intention() intent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.intent
}

func (s *Supervisor) setIntent(change func(*intent)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.intent
	change(&next)
	if next == s.intent {
		return nil
	}
	if err := next.write(s.layout.State); err != nil {
		return err
	}
	s.intent = next
	s.poke()
	return nil
}

func (s *Supervisor) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// Start brings the engine up and returns when it answers, with an error that holds the last lines of its log when it ends or does not get ready in
// time; the supervisor goes on trying if the engine was prepared before. On an engine that is up it does nothing.
func (s *Supervisor) Start(ctx context.Context) error {
	if err := s.setIntent(func(i *intent) { i.Stopped = false }); err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, s.times.StartTimeout, errNotReady)
	defer cancel()
	err := s.ask(wait, request{up: true})
	if err != nil && context.Cause(wait) == errNotReady { //nolint:errorlint // the cause is this very value or another one
		text := fmt.Sprintf("The database did not get ready within %s.", s.times.StartTimeout)
		return trove.Wrap(trove.KindInternal, err, "%s", s.withEvidence(text))
	}
	return err
}

// Stop ends the engine cleanly, by force if that takes longer than the engine's stop timeout, and returns when it is down. It stays down until
// Start, also when the agent or the machine starts again.
func (s *Supervisor) Stop(ctx context.Context) error {
	if err := s.setIntent(func(i *intent) { i.Stopped = i.Prepared }); err != nil {
		return err
	}
	return s.ask(ctx, request{})
}

// Restart ends the engine cleanly and starts it again.
func (s *Supervisor) Restart(ctx context.Context) error {
	s.setRestarting(true)
	defer s.setRestarting(false)
	if err := s.ask(ctx, request{}); err != nil {
		return err
	}
	return s.Start(ctx)
}

func (s *Supervisor) setRestarting(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts = on
	s.poke()
}

// halt ends the engine without remembering it: a machine or agent that starts later brings a prepared engine up again.
func (s *Supervisor) halt(ctx context.Context) error { return s.ask(ctx, request{}) }

func (s *Supervisor) ask(ctx context.Context, r request) error {
	r.done = make(chan error, 1)
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return fmt.Errorf("ask the supervisor: %w", context.Cause(ctx))
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the database: %w", context.Cause(ctx))
	}
}

// withEvidence adds the last lines of the engine's log to a sentence.
func (s *Supervisor) withEvidence(text string) string {
	s.mu.Lock()
	own := s.ownLog
	s.mu.Unlock()
	if lines := newEngineLog(s.layout.State, own).evidence(); lines != "" {
		return text + " Its log ends with:\n" + lines
	}
	return text
}

func (s *Supervisor) setOwnLog(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ownLog = path
}

// note sets the view and wakes whoever reports, if something changed.
func (s *Supervisor) note(v Service, happened string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == v && happened == "" {
		return
	}
	s.view = v
	if happened != "" {
		s.add(event{text: happened})
	}
	wake(s.changed)
}

// Tell takes an event of a kind of the domain in, which a heartbeat brings to the conductor.
func (s *Supervisor) Tell(kind, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(event{kind: kind, text: text})
	wake(s.changed)
}

// add keeps an event until it was sent often enough. The caller holds the lock.
func (s *Supervisor) add(e event) {
	e.at = s.clock.Now().UnixMicro()
	if n := len(s.events); n > 0 {
		e.at = max(e.at, s.events[n-1].at+1)
	}
	s.events = append(s.events, e)
	if len(s.events) > maxEvents {
		s.events = s.events[1:]
	}
}

// machineStops reports whether the whole machine is on its way down.
func (s *Supervisor) machineStops() bool {
	_, err := os.Stat(filepath.Join(s.runtime, StoppingFile))
	return err == nil
}
