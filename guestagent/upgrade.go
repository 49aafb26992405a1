package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Upgrade is what an agent needs to be replaced by another release of itself. The guest's first process does the replacing; package slots has what the two
// tell each other.
type Upgrade struct {
	Slots slots.Dir
	Keys  string // file with the public keys of those who sign releases
	Image string // version of the program in the image
	// Bus returns the addresses, host and port, at which controllers may listen now.
	Bus func() []string
	// Fetch reads an object that the grant lets the guest read.
	Fetch func(ctx context.Context, g guestapi.Grant, object string) (io.ReadCloser, error)
}

const (
	// spareSpace stays free on the data volume, in bytes: the database needs room more than the agent a new release.
	spareSpace = 32 << 20
	fetchPause = 2 * time.Second
	fetchLimit = 10 * time.Minute // of one try
	slotsPoll  = 100 * time.Millisecond
)

// upgradeAgent puts another release in this agent's place. The command is begun by this agent and ended by the one that comes after it: by the new one when
// it is well, or by this release again when the new one was refused or taken back. It may be run again from any point.
func upgradeAgent(ctx context.Context, r *run) error {
	u := r.cfg.Upgrade
	if u == nil {
		return trove.Errorf(trove.KindNotImplemented, "This guest agent cannot be replaced: a new version comes with a new image.")
	}
	var args guestapi.UpgradeAgentArgs
	if err := r.decode(&args); err != nil {
		return err
	}
	m, err := u.verify(args)
	if err != nil {
		return err
	}
	state, err := u.Slots.ReadState()
	if err != nil {
		return fmt.Errorf("read which release runs: %w", err)
	}
	if f := state.Failed; f != nil && f.Op == r.req.ID {
		return trove.Errorf(trove.KindUnprocessable, "%s", f.Sentence)
	}
	if m.Version == r.cfg.Version {
		return r.awaitTrial(ctx, m)
	}
	if err := r.admit(state, m); err != nil {
		return err
	}
	if err := r.fetchRelease(ctx, args, m); err != nil {
		return err
	}
	return r.makeRoom(ctx, args)
}

func (u *Upgrade) verify(args guestapi.UpgradeAgentArgs) (agentrelease.Manifest, error) {
	keys, err := agentrelease.ReadKeys(u.Keys)
	if trove.IsNotFound(err) {
		return agentrelease.Manifest{}, trove.Wrap(trove.KindUnprocessable, err,
			"This instance's image has no keys that could verify a release of the guest agent: build the image anew.")
	}
	if err != nil {
		return agentrelease.Manifest{}, err
	}
	m, err := agentrelease.Verify(keys, agentrelease.Signed{Manifest: args.Manifest, Signature: args.Signature})
	if err != nil {
		return m, err
	}
	if m.Version != args.Version || m.SHA256 != args.SHA256 {
		return m, trove.Errorf(trove.KindUnprocessable, "The command is about release %.32q, and its manifest about %s or another program.", args.Version, m.Version)
	}
	if m.OS != runtime.GOOS || m.Arch != runtime.GOARCH {
		return m, trove.Errorf(trove.KindUnprocessable, "Release %s is for %s/%s, and this machine is %s/%s.", m.Version, m.OS, m.Arch, runtime.GOOS, runtime.GOARCH)
	}
	return m, nil
}

// awaitTrial waits until the first process has decided on this very agent, which is the release that was asked for.
func (r *run) awaitTrial(ctx context.Context, m agentrelease.Manifest) error {
	for {
		state, err := r.cfg.Upgrade.Slots.ReadState()
		if err != nil {
			return fmt.Errorf("read which release runs: %w", err)
		}
		if state.Trial == nil || state.Trial.Version != m.Version {
			break
		}
		r.progressed(fmt.Sprintf("release %s runs, waiting until it has shown that it is well", m.Version), 80)
		if err := clock.Sleep(ctx, slotsPoll); err != nil {
			return trove.Wrap(trove.KindUnavailable, err, "Release %s of the guest agent runs, and was not confirmed yet.", m.Version)
		}
	}
	// The image's program has no manifest; its version is in the image's name for it.
	if have, err := agentrelease.ReadSigned(r.cfg.Upgrade.Slots.Release(m.Version)); err == nil {
		if runs, err := agentrelease.Parse(have.Manifest); err == nil && runs.SHA256 != m.SHA256 {
			return trove.Errorf(trove.KindUnprocessable, "Another program with the version %s runs already: a new program needs a new version.", m.Version)
		}
	}
	r.said = fmt.Sprintf("The guest agent is release %s.", m.Version)
	return nil
}

// admit says why a release is not even fetched. The first process asks the same again.
func (r *run) admit(state slots.State, m agentrelease.Manifest) error {
	floor := state.Floor(r.cfg.Upgrade.Image)
	if now := agentrelease.VersionOf(r.cfg.Version); floor.Less(now) {
		floor = now
	}
	if m.Ordinal().Less(floor) {
		return trove.Errorf(trove.KindUnprocessable, "Release %s is older than %s: the guest agent is not downgraded.", m.Version, floor)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.cfg.Layout.State, &fs); err != nil {
		return fmt.Errorf("look for space: %w", err)
	}
	if free, need := int64(fs.Bavail)*fs.Bsize, m.Size+spareSpace; free < need {
		return trove.Errorf(trove.KindUnprocessable, "The data volume has %d MiB free, and release %s needs %d: grow the volume first.",
			free>>20, m.Version, (need+1<<20-1)>>20)
	}
	return nil
}

// fetchRelease makes the release's directory, whole or not at all. A gateway that is away is asked again until the grant ends.
func (r *run) fetchRelease(ctx context.Context, args guestapi.UpgradeAgentArgs, m agentrelease.Manifest) error {
	dir := r.cfg.Upgrade.Slots.Release(m.Version)
	signed := agentrelease.Signed{Manifest: args.Manifest, Signature: args.Signature}
	if agentrelease.CheckProgram(dir, m) == nil { // of a try before
		return agentrelease.WriteSigned(dir, signed)
	}
	work := r.cfg.Upgrade.Slots.Release(".new")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil {
		return fmt.Errorf("make room for the release: %w", err)
	}
	for {
		r.progressed(fmt.Sprintf("fetching release %s of the guest agent, %d KiB", m.Version, m.Size>>10), 10)
		err := r.fetchOnce(ctx, args, filepath.Join(work, agentrelease.ProgramFile), m)
		if err == nil {
			break
		}
		if trove.IsPermanent(err) || ctx.Err() != nil || r.cfg.Clock.Now().After(args.Grant.Expires) || errors.Is(err, unix.ENOSPC) {
			return errors.Join(err, os.RemoveAll(work))
		}
		r.log.WarnContext(ctx, "release could not be fetched yet", "version", m.Version, "err", err)
		r.progressed("waiting for the object gateway: "+trove.MessageOf(err), 10)
		if err := clock.Sleep(ctx, fetchPause); err != nil {
			return fmt.Errorf("wait for the object gateway: %w", err)
		}
	}
	if err := agentrelease.WriteSigned(work, signed); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(work, dir)); err != nil {
		return fmt.Errorf("name the release: %w", err)
	}
	return nil
}

func (r *run) fetchOnce(ctx context.Context, args guestapi.UpgradeAgentArgs, to string, m agentrelease.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	in, err := r.cfg.Upgrade.Fetch(ctx, args.Grant, guestapi.AgentObject(m.Version))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep the release: %w", err)
	}
	err = agentrelease.CopyProgram(out, in, m)
	if trove.KindOf(err) == trove.KindUnprocessable {
		err = trove.Permanent(err) // the gateway gave something else than what was signed
	}
	return errors.Join(err, out.Sync(), out.Close())
}

// makeRoom notes what shall run and ends this process, without its command: the agent that is started next takes it up again.
func (r *run) makeRoom(ctx context.Context, args guestapi.UpgradeAgentArgs) error {
	now := r.supervisor.Service()
	w := slots.Wanted{
		Version: args.Version, Op: r.req.ID, EngineUp: now.Status == trove.ServiceHealthy, Bus: r.cfg.Upgrade.Bus(),
		Healthy: time.Duration(args.HealthySeconds) * time.Second,
	}
	if w.Healthy <= 0 {
		w.Healthy = slots.DefaultHealthy
	}
	r.progressed("making room for release "+args.Version, 60)
	if err := r.cfg.Upgrade.Slots.WriteWanted(w); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "agent ends to make room for another release", "version", args.Version, "op", r.req.ID)
	close(r.replaced) // there is one command at a time, and none after this
	<-ctx.Done()
	return context.Cause(ctx)
}

// lifePoll is between looks at what there is to tell the first process, soon after the start and later.
const (
	lifePoll     = 100 * time.Millisecond
	lifePollLate = 2 * time.Second
	lifeSoon     = 2 * time.Minute
)

// live tells the guest's first process how far this agent is, until it has found the database healthy and said hello.
func (a *Agent) live(ctx context.Context) {
	if a.cfg.Upgrade == nil {
		return
	}
	began := a.cfg.Clock.Now()
	var last slots.Life
	for {
		life := slots.Life{PID: os.Getpid(), Version: a.cfg.Version, Bus: a.greeted.Load()}
		if s := a.supervisor.Service(); s.Known {
			life.Engine, life.Service = s.PID, string(s.Status)
		}
		if life != last {
			if err := slots.WriteLife(a.cfg.Layout.Runtime, life); err != nil {
				a.log.WarnContext(ctx, "state was not told to the first process", "err", err)
			} else {
				last = life
			}
		}
		if last.Bus && last.Service == string(trove.ServiceHealthy) {
			return
		}
		pause := lifePoll
		if a.cfg.Clock.Now().Sub(began) > lifeSoon {
			pause = lifePollLate
		}
		if clock.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// takenBack returns the version of the release that was taken back last, if none was put in place since.
func (a *Agent) takenBack() string {
	if a.cfg.Upgrade == nil {
		return ""
	}
	s, err := a.cfg.Upgrade.Slots.ReadState()
	if err != nil || s.Failed == nil || s.Failed.Refused || len(s.Failed.Version) > 64 {
		return ""
	}
	return s.Failed.Version
}
