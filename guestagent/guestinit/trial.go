package guestinit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/netns"
)

// trial is what this process knows of the release on trial beyond its record.
type trial struct {
	look    *time.Ticker
	since   time.Time   // when the time began that the agent has to be well
	booted  time.Time   // when the machine was started in the middle of this trial; zero: it was not
	engine  process.Ref // that ran when the agent was started; without a process id there was none
	ended   string      // how the last agent ended
	asking  bool        // the bus is being tried
	asked   time.Time
	open    time.Time // since when the bus can be reached, and the agent is not on it; zero: it cannot
	answers chan bool
}

// How often, and for how long, the bus is tried while only that is missing.
const (
	reachPause   = 2 * time.Second
	reachTimeout = 2 * time.Second
)

// recoveryPatience is how long a database that was cut off with its machine may recover on the time of nobody. It is shorter than the command's own.
const recoveryPatience = 50 * time.Minute

// engine returns the database's process, or one without an id.
func (r *reaper) engine() process.Ref {
	if ref, err := process.ReadFile(filepath.Join(r.cfg.Runtime, pidFile)); err == nil && ref.Alive() {
		return ref
	}
	return process.Ref{}
}

// recovers reports whether what is missing is only that the database gets ready after the machine was cut off: the agent has started it, and it runs. How long
// that takes says nothing of the agent. One that ends meanwhile is not waited for.
func (r *reaper) recovers(t *slots.Trial, life slots.Life, now time.Time) bool {
	if r.trial.booted.IsZero() || now.Sub(r.trial.booted) >= recoveryPatience {
		return false
	}
	return life.PID == r.agent && life.Version == t.Version && life.Service == string(trove.ServiceRunning) && life.Engine != 0 && life.Engine == r.engine().PID
}

// beginTrial watches the agent that was started just now if it is on trial.
func (r *reaper) beginTrial() {
	if r.state.Trial == nil {
		return
	}
	r.trial.open, r.trial.engine, r.trial.since = time.Time{}, r.engine(), r.started
	r.trial.look.Reset(r.cfg.Look)
}

// look decides whether the agent on trial is well, or has had its time. While the bus cannot be reached, because the control plane is off, an agent that is
// well otherwise stays on trial: that is not its fault, and neither proof that it can join.
func (r *reaper) look(ctx context.Context) {
	t := r.state.Trial
	if t == nil {
		r.trial.look.Stop()
		return
	}
	if r.agent == 0 {
		return // it ended: it is started again, or taken back then
	}
	life, err := slots.ReadLife(r.cfg.Runtime)
	if err != nil {
		r.log.WarnContext(ctx, "what the agent says of itself was unreadable", "err", err)
	}
	missing := r.missing(t, life)
	switch now := monotonic(); {
	case missing == "" && (life.Bus || len(t.Bus) == 0):
		r.confirm(ctx)
	case missing != "":
		if r.recovers(t, life, now) {
			r.trial.since = now
		}
		if now.Sub(r.trial.since) >= t.Healthy {
			r.takeBack(ctx, fmt.Sprintf("within %s %s", t.Healthy, missing))
		}
	case !r.trial.open.IsZero() && now.Sub(r.trial.open) >= t.Healthy:
		r.takeBack(ctx, fmt.Sprintf("within %s it did not join the bus, which can be reached", t.Healthy))
	case !r.trial.asking && now.Sub(r.trial.asked) >= reachPause:
		r.trial.asking, r.trial.asked = true, now
		go r.reach(ctx, t.Bus)
	}
}

// missing says what the agent on trial has not shown yet, beside the bus; "" if nothing.
func (r *reaper) missing(t *slots.Trial, life slots.Life) string {
	switch engine := r.trial.engine; {
	case life.PID != r.agent:
		return "it said nothing of itself"
	case life.Version != t.Version:
		return fmt.Sprintf("it said that it is %q, which is not what was signed", life.Version[:min(len(life.Version), 64)])
	case engine.PID != 0 && life.Engine != engine.PID && engine.Alive():
		return fmt.Sprintf("it did not take over the database's process %d", engine.PID)
	case life.Service == "" || t.EngineUp && life.Service != string(trove.ServiceHealthy):
		return "it did not find the database healthy"
	}
	return ""
}

// reach tries whether the bus can be reached at all.
func (r *reaper) reach(ctx context.Context, addresses []string) {
	dial := netns.Dialer(r.cfg.Management, net.Dialer{Timeout: reachTimeout})
	for _, a := range addresses {
		conn, err := dial(ctx, "tcp", a)
		if err == nil {
			conn.Close()
			r.trial.answers <- true
			return
		}
	}
	r.trial.answers <- false
}

func (r *reaper) reached(ok bool) {
	r.trial.asking = false
	switch {
	case !ok:
		r.trial.open = time.Time{}
	case r.trial.open.IsZero():
		r.trial.open = r.trial.asked
	}
}

// confirm makes the release on trial the one that runs from now on. The one before is kept.
func (r *reaper) confirm(ctx context.Context) {
	r.trial.look.Stop()
	r.trial.booted = time.Time{}
	s, t := r.state, r.state.Trial
	r.state = slots.State{Current: t.Version, Previous: s.Current, Highest: t.Version}
	if agentrelease.VersionOf(t.Version).Less(agentrelease.VersionOf(s.Highest)) {
		r.state.Highest = s.Highest
	}
	if s.Current == t.Version {
		r.state.Previous = s.Previous
	}
	r.prune(ctx)
	r.save(ctx)
	r.log.InfoContext(ctx, "release of the agent is well and stays", "version", t.Version, "took", monotonic().Sub(r.started).Round(time.Millisecond).String())
}

// takeBack ends the trial; the release before is started in its place.
func (r *reaper) takeBack(ctx context.Context, why string) {
	r.trial.look.Stop()
	r.trial.booted = time.Time{}
	t := r.state.Trial
	r.log.ErrorContext(ctx, "release of the agent was taken back", "version", t.Version, "why", why)
	r.state.Failed = &slots.Failed{
		Version: t.Version, Op: t.Op, Sentence: fmt.Sprintf("Release %s of the guest agent was taken back: %s.", t.Version, why),
	}
	r.state.Trial = nil
	r.prune(ctx)
	r.save(ctx)
	r.backoff = 0
	if r.agent != 0 {
		if err := unix.Kill(r.agent, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			r.log.ErrorContext(ctx, "agent could not be ended", "pid", r.agent, "err", err)
		}
	}
}

// prune removes what is not kept. It comes before save: who reads of the end of a trial may write the next release.
func (r *reaper) prune(ctx context.Context) {
	if err := r.cfg.Slots.Prune(r.state.Current, r.state.Previous); err != nil {
		r.log.WarnContext(ctx, "old releases of the agent were not removed", "err", err)
	}
}
