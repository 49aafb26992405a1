package guestagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/execx"
)

// start starts the engine; a failure is treated as a crash.
func (l *loop) start(ctx context.Context) {
	if l.s.machineStops() {
		l.want = false
		l.answer(&l.starters, trove.Errorf(trove.KindUnavailable, "The machine is being stopped."))
		return
	}
	if err := l.launch(ctx); err != nil {
		l.s.log.ErrorContext(ctx, "engine could not be started", "err", err)
		l.down(ctx, "The database could not be started: "+err.Error()+".")
		return
	}
	l.phase = phaseStarting
	l.timer.Reset(l.nextStartPoll())
}

func (l *loop) launch(ctx context.Context) error {
	c, err := l.s.engine.Command(l.s.layout)
	if err != nil {
		return fmt.Errorf("work out the engine's command line: %w", err)
	}
	stop := l.s.engine.Info().StopTimeout.String()
	if err := atomicfile.Write(filepath.Join(l.s.runtime, StopTimeoutFile), []byte(stop+"\n"), 0o644); err != nil {
		return err
	}
	signal := strconv.Itoa(int(stopSignal(l.s.engine)))
	if err := atomicfile.Write(filepath.Join(l.s.runtime, StopSignalFile), []byte(signal+"\n"), 0o644); err != nil {
		return err
	}
	l.log = newEngineLog(l.s.layout.State, c.LogFile)
	l.s.setOwnLog(c.LogFile)
	// One that does not get up writes too, again and again, and is never asked whether it is well.
	if err := l.log.bound(); err != nil {
		l.s.log.WarnContext(ctx, "engine log could not be cut", "err", err)
	}
	out, err := l.log.begin()
	if err != nil {
		return err
	}
	defer out.Close() // the engine has its own copy, which outlives the agent
	// The engine lives longer than whoever started it: no context ends it, and its session is its own.
	cmd := execx.Command(context.WithoutCancel(ctx), execx.Cmd{
		Path: c.Path, Args: c.Args, Env: l.s.environment(c), Dir: c.Dir,
		Attr: &syscall.SysProcAttr{Setsid: true, Credential: credential(c)},
	})
	cmd.Stdout, cmd.Stderr = out, out
	if err := os.WriteFile(filepath.Join(l.s.runtime, launchingFile), nil, 0o600); err != nil {
		return fmt.Errorf("mark the start of the engine: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Path, err)
	}
	ref, err := process.Find(cmd.Process.Pid)
	if errors.Is(err, process.ErrGone) { // a zombie already: its id cannot be another's before Wait
		return fmt.Errorf("%s ended at once: %w", c.Path, errors.Join(cmd.Wait(), errors.New(l.log.evidence())))
	}
	if err == nil {
		ref.Began = l.s.clock.Now()
		err = ref.WriteFile(filepath.Join(l.s.runtime, PIDFile))
	}
	var h *process.Handle
	if err == nil {
		h, err = process.Open(ref)
	}
	if err != nil {
		_ = cmd.Process.Kill() // nobody would find it again
		return errors.Join(err, cmd.Wait())
	}
	if err := removeFile(filepath.Join(l.s.runtime, launchingFile)); err != nil {
		l.s.log.WarnContext(ctx, "mark of the start was not removed", "err", err)
	}
	l.hold(h, cmd)
	l.notify = c.Notify
	l.s.log.InfoContext(ctx, "engine was started", "pid", ref.PID)
	return nil
}

func (s *Supervisor) environment(c engine.Command) []string {
	env := c.Env
	if env == nil {
		env = execx.MinimalEnv()
	}
	if c.Notify {
		env = append(slices.Clip(env), "NOTIFY_SOCKET="+filepath.Join(s.runtime, notifyFile))
	}
	return env
}

// credential is the account that the engine runs as. Leaving root's id drops every capability; no_new_privs comes from whoever made the guest.
func credential(c engine.Command) *syscall.Credential {
	if c.UID == os.Getuid() && c.GID == os.Getgid() {
		return nil
	}
	return &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}
}

// ended is called when the process has ended, asked to or not.
func (l *loop) ended(ctx context.Context) {
	// What else is in the engine's process group must not hold its files when it is started again. While it has a member the kernel gives the number
	// to nobody else.
	if err := unix.Kill(-l.handle.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		l.s.log.WarnContext(ctx, "rest of the engine's session could not be ended", "err", err)
	}
	how := "it ended"
	if l.child != nil {
		_ = l.child.Wait() // how it ended is in ProcessState
		how = l.child.ProcessState.String()
	}
	wasStopping := l.phase == phaseStopping || l.stopNext
	l.stopNext = false
	age := l.s.clock.Now().Sub(l.handle.Began)
	l.s.log.InfoContext(ctx, "engine ended", "pid", l.handle.PID, "how", how, "phase", l.phase)
	_ = l.handle.Close()
	l.handle, l.child, l.exited = nil, nil, nil
	if err := os.Remove(filepath.Join(l.s.runtime, PIDFile)); err != nil {
		l.s.log.WarnContext(ctx, "pid file was not removed", "err", err)
	}
	if wasStopping || l.s.machineStops() {
		l.phase, l.crashed = phaseDown, false
		l.timer.Stop()
		l.publish("")
		l.answer(&l.stoppers, nil)
		if len(l.starters) > 0 {
			l.want = true
			l.start(ctx)
		}
		return
	}
	l.down(ctx, fmt.Sprintf("The database ended by itself after %s (%s).", age.Round(time.Millisecond), how))
}

// down is the engine's crash: it is reported and, once prepared, started again after a while.
func (l *loop) down(ctx context.Context, sentence string) {
	sentence = l.evidence(sentence)
	if !l.upSince.IsZero() && l.s.clock.Now().Sub(l.upSince) >= l.s.times.BackoffReset {
		l.backoff = 0
	}
	l.backoff = min(max(l.s.times.BackoffMin, 2*l.backoff), l.s.times.BackoffMax)
	l.phase, l.crashed, l.failed, l.upSince = phaseDown, true, 0, time.Time{}
	l.s.log.WarnContext(ctx, "engine crashed", "again_in", l.backoff)
	if l.s.Prepared() {
		l.timer.Reset(l.backoff)
	} else {
		l.want = false
		l.timer.Stop()
	}
	l.publish(sentence)
	l.answer(&l.starters, trove.Errorf(trove.KindInternal, "%s", sentence))
}
