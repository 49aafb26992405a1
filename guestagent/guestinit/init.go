// Package guestinit is the first process of a sandbox: it starts the agent and starts it again when it ends, reaps what dies, and brings engine and agent
// down in that order when the machine is stopped. It does little else, because its end is the end of the sandbox.
//
// It is a process of its own because a wait for any child takes the end of children away from package os/exec, which the agent uses. For the same
// reason it starts the agent without os/exec. It forwards no signal. Run may be called once in a process.
//
// It also decides which release of the agent runs: a signed one from the data volume, verified at every start and run from a sealed copy in memory, or the
// one in the image. A new release is on trial until it is well; if it ends too often or is not well in time, the one before is started again. Package slots
// has the files.
package guestinit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestagent/slots"
)

// Files of the runtime directory, which the agent writes and reads; see package guestagent.
const (
	pidFile         = "engine.pid"
	stopTimeoutFile = "engine.stop-timeout"
	stopSignalFile  = "engine.stop-signal"
	stoppingFile    = "stopping"
)

// Config says what is run. Zero times are their defaults.
type Config struct {
	Agent   string   // the agent's program
	Args    []string // its arguments
	Runtime string   // the guest's runtime directory
	// Subreaper makes orphans children of a process that is not the first one, as in a virtual machine, where systemd is. The agent then ends with this
	// process, since nothing else would end it: two agents would be one too many. The engine does not.
	Subreaper bool
	Log       *slog.Logger

	// Slots is where releases of the agent are kept; "": only the program in the image is run.
	Slots   slots.Dir
	Keys    string // file with the public keys of those who sign releases
	Version string // of the program in the image: older releases are not run

	// Management is the file of the network namespace from which the bus is reached; where there is none, it is reached from here.
	Management string

	BackoffMin time.Duration // before an agent that ended is started again; 100 ms
	BackoffMax time.Duration // 10 s
	AgentGrace time.Duration // how long the agent may take to end; 5 s
	Look       time.Duration // between looks at an agent on trial; 250 ms
}

const (
	defaultStopTimeout = 60 * time.Second // of an engine that left no file
	steady             = 30 * time.Second // an agent that ran so long begins with BackoffMin again
	poll               = 20 * time.Millisecond
	untilRest          = time.Second // without anything to do, until memory is given back
)

type reaper struct {
	cfg     Config
	log     *slog.Logger
	signals chan os.Signal
	agent   int // its process id, 0 when it does not run
	started time.Time
	backoff time.Duration
	again   *time.Timer

	state   slots.State
	unsaved bool // the state could not be written
	trial   trial
}

// Run works until SIGTERM or SIGINT came and everything has ended. An error means that it could not begin, or that the engine had to be killed.
func Run(ctx context.Context, cfg Config) error {
	// One goroutine and next to no garbage: a heap that is collected early stays at its smallest.
	debug.SetGCPercent(10)
	if cfg.Subreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become the parent of orphans: %w", err)
		}
		// The agent's end is bound to the thread that starts it, not to the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	r := newReaper(cfg)
	signal.Notify(r.signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(r.signals)
	if err := r.remove(stoppingFile); err != nil {
		return err
	}
	r.readState(ctx)
	up := r.engine().PID != 0
	r.startAgent(ctx)
	if r.state.Trial != nil && !up {
		r.trial.booted = monotonic()
	}
	rest := time.NewTimer(untilRest)
	defer rest.Stop()
	for {
		select {
		case s := <-r.signals:
			if s != unix.SIGCHLD {
				r.log.InfoContext(ctx, "machine is being stopped", "signal", s.String())
				return r.shutdown(ctx)
			}
			r.reap(ctx)
		case <-r.again.C:
			r.startAgent(ctx)
		case <-r.trial.look.C:
			r.look(ctx)
		case ok := <-r.trial.answers:
			r.reached(ok)
		case <-rest.C:
			if r.unsaved {
				r.save(ctx)
			}
			r.letGo(ctx)
			continue
		}
		rest.Reset(untilRest)
	}
}

func newReaper(cfg Config) *reaper {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&cfg.BackoffMin, 100*time.Millisecond)
	set(&cfg.BackoffMax, 10*time.Second)
	set(&cfg.AgentGrace, 5*time.Second)
	set(&cfg.Look, 250*time.Millisecond)
	// SIGCHLD may fill the channel: one in it is enough, and the others must find room.
	r := &reaper{cfg: cfg, log: cfg.Log, signals: make(chan os.Signal, 16), again: time.NewTimer(time.Hour)}
	r.again.Stop()
	r.trial.look = time.NewTicker(time.Hour)
	r.trial.look.Stop()
	r.trial.answers = make(chan bool, 1)
	return r
}

func (r *reaper) startAgent(ctx context.Context) {
	p := r.choose(ctx)
	defer p.close()
	if err := r.remove(slots.LifeFile); err != nil {
		r.log.WarnContext(ctx, "what the last agent said of itself was not removed", "err", err)
	}
	args := append([]string{r.cfg.Agent}, r.cfg.Args...)
	pid, err := syscall.ForkExec(p.path, args, &syscall.ProcAttr{ //nolint:gosec // it is the image's program, or one that was verified just now
		Env: r.environment(), Files: []uintptr{0, 1, 2}, Sys: r.attributes(),
	})
	if err != nil {
		r.log.ErrorContext(ctx, "agent could not be started", "version", p.version, "err", err)
		r.trial.ended = "it could not be started: " + err.Error()
		r.later()
		return
	}
	r.agent, r.started = pid, monotonic()
	r.log.InfoContext(ctx, "agent was started", "pid", pid, "version", p.version)
	r.beginTrial()
}

func (r *reaper) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if r.cfg.Subreaper {
		attr.Pdeathsig = unix.SIGTERM
	}
	return attr
}

func (r *reaper) environment() []string {
	if r.cfg.Slots == "" {
		return os.Environ()
	}
	return append(os.Environ(), slots.EnvInit+"="+r.cfg.Version)
}

// later starts the agent again after a growing pause.
func (r *reaper) later() {
	r.backoff = min(max(r.cfg.BackoffMin, 2*r.backoff), r.cfg.BackoffMax)
	r.again.Reset(r.backoff)
}

// reap takes the end of every child that has ended; they are not all ours, orphans come here.
func (r *reaper) reap(ctx context.Context) {
	for {
		var how unix.WaitStatus
		pid, err := unix.Wait4(-1, &how, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid != r.agent {
			continue
		}
		r.agent = 0
		if monotonic().Sub(r.started) >= steady {
			r.backoff = 0
		}
		r.later()
		ended := "status " + strconv.Itoa(how.ExitStatus())
		if how.Signaled() {
			ended = how.Signal().String()
		}
		r.trial.ended = "it ended with " + ended
		r.log.WarnContext(ctx, "agent ended", "how", ended, "again_in", r.backoff.String())
	}
}

// shutdown ends the engine cleanly, then the agent, then an engine that the agent started in between.
func (r *reaper) shutdown(ctx context.Context) error {
	r.again.Stop()
	mark := os.WriteFile(filepath.Join(r.cfg.Runtime, stoppingFile), nil, 0o600)
	err := errors.Join(mark, r.stopEngine(ctx))
	if r.agent != 0 {
		r.end(ctx, r.agent, unix.SIGTERM, r.cfg.AgentGrace, func() bool { return r.agent != 0 })
	}
	r.again.Stop() // the agent's end has set it
	return errors.Join(err, r.stopEngine(ctx))
}

func (r *reaper) stopEngine(ctx context.Context) error {
	ref, err := process.ReadFile(filepath.Join(r.cfg.Runtime, pidFile))
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if !ref.Alive() { // its id may be another's now
		return nil
	}
	limit := r.stopTimeout()
	if !r.end(ctx, ref.PID, r.stopSignal(), limit, ref.Alive) {
		return fmt.Errorf("the engine did not end within %s and was killed", limit)
	}
	r.log.InfoContext(ctx, "engine was stopped", "pid", ref.PID)
	return nil
}

// end asks a process to end and kills it after a while; false if that was needed.
func (r *reaper) end(ctx context.Context, pid int, sig unix.Signal, limit time.Duration, alive func() bool) bool {
	clean := r.endBy(ctx, pid, sig, limit, alive)
	if !clean {
		r.endBy(ctx, pid, unix.SIGKILL, limit, alive)
	}
	return clean
}

func (r *reaper) endBy(ctx context.Context, pid int, sig unix.Signal, limit time.Duration, alive func() bool) bool {
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		r.log.ErrorContext(ctx, "process could not be ended", "pid", pid, "err", err)
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	look := time.NewTicker(poll)
	defer look.Stop()
	for {
		r.reap(ctx)
		if !alive() {
			return true
		}
		select {
		case <-deadline.C:
			return false
		case <-r.signals:
		case <-look.C:
		}
	}
}

func (r *reaper) stopTimeout() time.Duration {
	text, err := os.ReadFile(filepath.Join(r.cfg.Runtime, stopTimeoutFile))
	if err != nil {
		return defaultStopTimeout
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil || d <= 0 {
		return defaultStopTimeout
	}
	return d
}

// stopSignal is what the engine takes for a wish to end; an agent of before this file wrote none.
func (r *reaper) stopSignal() unix.Signal {
	text, err := os.ReadFile(filepath.Join(r.cfg.Runtime, stopSignalFile))
	if err != nil {
		return unix.SIGTERM
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n != int(unix.SIGINT) && n != int(unix.SIGQUIT) {
		return unix.SIGTERM
	}
	return unix.Signal(n)
}

func (r *reaper) remove(name string) error {
	err := os.Remove(filepath.Join(r.cfg.Runtime, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a file of the runtime directory: %w", err)
	}
	return nil
}

// monotonic is a moment to measure from.
func monotonic() time.Time {
	return time.Now() //nolint:forbidigo // only differences are taken, by the monotonic clock, which clock.System drops
}
