package guestinit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/agentrelease"
)

// maxStarts is how often a release on trial is started before it is taken back.
const maxStarts = 3

// maxBus is how many addresses of the bus are tried.
const maxBus = 8

// program is what an agent is started from.
type program struct {
	path    string
	version string
	file    *os.File // the sealed copy in memory, nil for the image's program; the process that was started from it keeps it alive
}

func (p program) close() {
	if p.file != nil {
		p.file.Close()
	}
}

// image is the program that came with the image: read-only, and what this process runs from.
func (r *reaper) image() program { return program{path: r.cfg.Agent, version: r.cfg.Version} }

// readState reads which release runs. One that cannot be read is that of a new guest: the image's program can always be run.
func (r *reaper) readState(ctx context.Context) {
	if r.cfg.Slots == "" {
		return
	}
	s, err := r.cfg.Slots.ReadState()
	if err != nil {
		r.log.ErrorContext(ctx, "record of the agent's releases was unreadable, the image's is run", "err", err)
	}
	r.state = s
}

// save writes the state. What cannot be written, on a full volume, is written later; until then the state in memory counts.
func (r *reaper) save(ctx context.Context) {
	err := r.cfg.Slots.WriteState(r.state)
	r.unsaved = err != nil
	if err != nil {
		r.log.ErrorContext(ctx, "record of the agent's releases was not written", "err", err)
	}
}

// choose opens what shall run now: the release on trial, the current one, the one before, the image's.
func (r *reaper) choose(ctx context.Context) program {
	if r.cfg.Slots == "" {
		return r.image()
	}
	r.takeWanted(ctx)
	if t := r.state.Trial; t != nil && t.Starts >= maxStarts {
		r.takeBack(ctx, fmt.Sprintf("it ended %d times before it was well; at last %s", t.Starts, r.lastEnd()))
	}
	if t := r.state.Trial; t != nil {
		p, err := r.open(t.Version)
		if err == nil {
			t.Starts++
			r.save(ctx)
			return p
		}
		r.takeBack(ctx, "it could not be run: "+trove.MessageOf(err))
	}
	return r.settled(ctx)
}

func (r *reaper) lastEnd() string {
	if r.trial.ended == "" {
		return "it ended with the machine"
	}
	return r.trial.ended
}

// takeWanted begins what the agent asked for before it ended.
func (r *reaper) takeWanted(ctx context.Context) {
	w, err := r.cfg.Slots.ReadWanted()
	if err != nil {
		r.log.ErrorContext(ctx, "wish for another release was unreadable", "err", err)
	}
	if w != nil && !r.seen(*w) {
		w.Starts, w.Bus = 0, w.Bus[:min(len(w.Bus), maxBus)]
		w.Healthy = min(max(w.Healthy, slots.MinHealthy), slots.MaxHealthy)
		if err := r.admit(w.Version); err != nil {
			r.log.ErrorContext(ctx, "release of the agent was refused", "version", w.Version, "err", err)
			r.state.Failed = &slots.Failed{Version: w.Version, Op: w.Op, Sentence: trove.MessageOf(err), Refused: true}
			r.prune(ctx)
		} else {
			r.log.InfoContext(ctx, "release of the agent is tried", "version", w.Version)
			r.state.Trial, r.backoff, r.trial.ended = w, 0, ""
		}
		r.save(ctx)
	}
	if w != nil || err != nil {
		if err := r.cfg.Slots.DropWanted(); err != nil {
			r.log.WarnContext(ctx, "wish for another release was not removed", "err", err)
		}
	}
}

// seen reports whether the wish was dealt with before this process, or its record of it, was cut off.
func (r *reaper) seen(w slots.Wanted) bool {
	s := r.state
	return s.Trial != nil && s.Trial.Op == w.Op || s.Failed != nil && s.Failed.Op == w.Op || s.Trial == nil && s.Current == w.Version && w.Version != ""
}

// admit says why a release must not be tried. That it is what was signed is asked at each start.
func (r *reaper) admit(version string) error {
	m, err := r.manifest(version)
	if err != nil {
		return err
	}
	if floor := r.state.Floor(r.cfg.Version); m.Ordinal().Less(floor) {
		return trove.Errorf(trove.KindUnprocessable, "Release %s is older than %s: the agent is not downgraded.", version, floor)
	}
	return nil
}

// settled opens the release that was well last. One that cannot be run any more, because its files were damaged or changed, is given up.
func (r *reaper) settled(ctx context.Context) program {
	for _, version := range []string{r.state.Current, r.state.Previous} {
		if version == "" {
			break
		}
		p, err := r.open(version)
		if err == nil {
			if r.state.Current != version {
				r.state.Current, r.state.Previous = version, ""
				r.save(ctx)
			}
			return p
		}
		r.log.ErrorContext(ctx, "release of the agent cannot be run any more", "version", version, "err", err)
		r.state.Failed = &slots.Failed{Version: version, Sentence: trove.MessageOf(err)}
	}
	if r.state.Current != "" {
		r.state.Current, r.state.Previous = "", ""
		r.save(ctx)
	}
	return r.image()
}

// manifest verifies a release's manifest, with the keys that came with the image.
func (r *reaper) manifest(version string) (agentrelease.Manifest, error) {
	var none agentrelease.Manifest
	v, err := agentrelease.ParseVersion(version)
	if err != nil {
		return none, err
	}
	keys, err := agentrelease.ReadKeys(r.cfg.Keys)
	if err != nil {
		return none, err
	}
	signed, err := agentrelease.ReadSigned(r.cfg.Slots.Release(version))
	if err != nil {
		return none, err
	}
	m, err := agentrelease.Verify(keys, signed)
	switch {
	case err != nil:
		return none, err
	case m.Version != version:
		return none, trove.Errorf(trove.KindUnprocessable, "Release %s lies in the place of %s.", m.Version, version)
	case m.OS != runtime.GOOS || m.Arch != runtime.GOARCH:
		return none, trove.Errorf(trove.KindUnprocessable, "Release %s is for %s/%s, and this machine is %s/%s.", version, m.OS, m.Arch, runtime.GOOS, runtime.GOARCH)
	case v.Less(agentrelease.VersionOf(r.cfg.Version)):
		return none, trove.Errorf(trove.KindUnprocessable, "Release %s is older than %s, which came with the image.", version, r.cfg.Version)
	}
	return m, nil
}

// open verifies a release and returns a copy of its program that nobody can change any more: the file systems that the guest can write to let nothing be
// executed, and a file on them could be changed between the check and the start.
func (r *reaper) open(version string) (program, error) {
	m, err := r.manifest(version)
	if err != nil {
		return program{}, err
	}
	source := filepath.Join(r.cfg.Slots.Release(version), agentrelease.ProgramFile)
	in, err := os.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return program{}, trove.Wrap(trove.KindUnprocessable, err, "The program of release %s cannot be read.", version)
	}
	defer in.Close()
	sealed, err := sealedCopy(in, m)
	if err != nil {
		return program{}, err
	}
	return program{path: "/proc/self/fd/" + strconv.Itoa(int(sealed.Fd())), version: version, file: sealed}, nil
}

// sealedCopy copies the program into memory, where it counts as the guest's, seals it and only then compares it with the manifest.
func sealedCopy(in io.Reader, m agentrelease.Manifest) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	name := agentrelease.ProgramFile + "-" + m.Version
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, trove.Wrap(trove.KindUnprocessable, err, "This machine's kernel gives no memory that a program can be run from (%v); vm.memfd_noexec must not be 2.", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = io.Copy(f, io.LimitReader(in, m.Size+1)); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		err = trove.Wrap(trove.KindUnprocessable, err, "The program of release %s could not be copied into memory.", m.Version)
	} else {
		err = agentrelease.CopyProgram(io.Discard, f, m)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
