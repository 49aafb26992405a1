package guestagent

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent/process"
)

// launchingFile exists while an engine is being started: an agent that dies between the start and the pid file leaves it, and the next one looks for
// an engine without a pid file.
const launchingFile = "engine.launching"

// find returns a hold on the engine that an earlier agent left, nil if there is none that runs.
func (s *Supervisor) find(ctx context.Context) *process.Handle {
	ref, err := process.ReadFile(filepath.Join(s.runtime, PIDFile))
	if err != nil && !errors.Is(err, process.ErrGone) {
		s.log.ErrorContext(ctx, "pid file was unreadable", "err", err)
	}
	if err == nil && !ref.Alive() {
		s.endRest(ctx, ref)
		err = process.ErrGone
	}
	if err != nil {
		ref, err = s.findUnnamed()
	}
	if err != nil {
		return nil
	}
	h, err := process.Open(ref)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		s.log.ErrorContext(ctx, "engine could not be adopted", "err", err)
		return nil
	}
	return h
}

// endRest ends what is left of the process group of an engine that ended while no agent looked: it must not hold the files of the next one. While the
// group has a member the kernel gives its number to nobody else, so a group without its leader is the engine's.
func (s *Supervisor) endRest(ctx context.Context, ref process.Ref) {
	if err := unix.Kill(ref.PID, 0); !errors.Is(err, unix.ESRCH) {
		return
	}
	if err := unix.Kill(-ref.PID, unix.SIGKILL); err == nil {
		s.log.WarnContext(ctx, "rest of an engine was ended", "pid", ref.PID)
	}
}

// findUnnamed looks for an engine whose start was interrupted before its pid file was written: a session of its own with the engine's account
// and command line. It writes the pid file that is missing.
func (s *Supervisor) findUnnamed() (process.Ref, error) {
	mark := filepath.Join(s.runtime, launchingFile)
	if _, err := os.Stat(mark); err != nil {
		return process.Ref{}, process.ErrGone
	}
	c, err := s.engine.Command(s.layout)
	if err != nil {
		return process.Ref{}, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process.Ref{}, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !looksLike(pid, c) {
			continue
		}
		ref, err := process.Find(pid)
		if err != nil {
			continue
		}
		ref.Began = s.clock.Now()
		return ref, errors.Join(ref.WriteFile(filepath.Join(s.runtime, PIDFile)), removeFile(mark))
	}
	return process.Ref{}, process.ErrGone
}

func looksLike(pid int, c engine.Command) bool {
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		return false
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != c.UID {
		return false
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return false
	}
	args := bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0})
	want := append([]string{c.Path}, c.Args...)
	return slices.EqualFunc(args, want, func(a []byte, b string) bool { return string(a) == b })
}
