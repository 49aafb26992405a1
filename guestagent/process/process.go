// Package process names a process so that it can be found again by another program after a crash: by its id together with the time it started,
// because ids are used again. It signals and awaits through a pidfd, which cannot hit a stranger either.
//
// A Handle may be used from several goroutines. Linux only.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// ErrGone is returned when the process has ended, or its id belongs to another one now.
var ErrGone = errors.New("the process has ended")

// Ref names one process of this boot.
type Ref struct {
	PID   int
	Start uint64 // field 22 of /proc/PID/stat: ticks since boot
	// Began is the same moment for people; zero if unknown.
	Began time.Time
}

// Find returns the reference of a running process. A zombie has ended: ErrGone.
func Find(pid int) (Ref, error) {
	state, start, err := stat(pid)
	if err != nil {
		return Ref{}, err
	}
	if state == 'Z' || state == 'X' {
		return Ref{}, ErrGone
	}
	return Ref{PID: pid, Start: start}, nil
}

// Alive reports whether the process still runs.
func (r Ref) Alive() bool {
	now, err := Find(r.PID)
	return err == nil && now.Start == r.Start
}

func stat(pid int) (state byte, start uint64, err error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, 0, ErrGone
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look up process %d: %w", pid, err)
	}
	// The name in brackets may hold anything, brackets too: the fields begin after the last one.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("look up process %d: %q is no process status", pid, data)
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("look up process %d: %w", pid, err)
	}
	return fields[0][0], start, nil
}

// WriteFile writes the reference to a pid file: id, start ticks, microseconds since 1970.
func (r Ref) WriteFile(path string) error {
	return atomicfile.Write(path, fmt.Appendf(nil, "%d %d %d\n", r.PID, r.Start, r.Began.UnixMicro()), 0o644)
}

// ReadFile reads a pid file. A missing file is ErrGone.
func ReadFile(path string) (Ref, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Ref{}, ErrGone
	}
	if err != nil {
		return Ref{}, fmt.Errorf("read pid file: %w", err)
	}
	var r Ref
	var began int64
	if _, err := fmt.Sscanf(string(data), "%d %d %d", &r.PID, &r.Start, &began); err != nil {
		return Ref{}, fmt.Errorf("read pid file %s: %w", path, err)
	}
	if r.PID <= 1 {
		return Ref{}, fmt.Errorf("read pid file %s: %d is no process that was started here", path, r.PID)
	}
	r.Began = time.UnixMicro(began).UTC()
	return r, nil
}

// Handle is a hold on one process, child or not.
type Handle struct {
	Ref
	file *os.File
}

// Open takes hold of the process; ErrGone if it has ended. The caller closes the handle.
func Open(r Ref) (*Handle, error) {
	fd, err := unix.PidfdOpen(r.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", r.PID, err)
	}
	// Non-blocking, so that the runtime's poller waits for it and no thread does.
	h := &Handle{Ref: r, file: os.NewFile(uintptr(fd), "pidfd")}
	// The check comes after the open: whatever has the id now is what the descriptor holds.
	if !r.Alive() {
		_ = h.file.Close()
		return nil, ErrGone
	}
	return h, nil
}

// Watch waits until the process has ended or the handle is closed, and reports whether it has ended. A child becomes a zombie that is
// still to be waited for.
func (h *Handle) Watch() bool {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	_ = conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n == 1
		return ended
	})
	return ended
}

// Signal sends a signal; ErrGone if the process has ended.
func (h *Handle) Signal(sig unix.Signal) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("signal process %d: %w", h.PID, err)
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return fmt.Errorf("signal process %d: %w", h.PID, err)
	}
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	if sent != nil {
		return fmt.Errorf("signal process %d: %w", h.PID, sent)
	}
	return nil
}

// Close lets go of the process, which goes on. A running Watch returns.
func (h *Handle) Close() error { return h.file.Close() }
