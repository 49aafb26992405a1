package guestagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	engineLogFile  = "engine.log"
	engineLogLimit = 4 << 20 // bytes; above it the older part is dropped
	evidenceBytes  = 2048
	evidenceLines  = 12
)

// engineLog is where an engine's output goes, and its own error log if it writes one. Both are bounded: they share the volume with the data.
type engineLog struct {
	output string // standard output and error
	own    string // the engine's own file, "" if it has none
	since  map[string]int64
}

func newEngineLog(state, own string) *engineLog {
	return &engineLog{output: filepath.Join(state, engineLogFile), own: own, since: map[string]int64{}}
}

// begin opens the output for a new process and notes where its lines begin.
func (l *engineLog) begin() (*os.File, error) {
	for _, path := range []string{l.output, l.own} {
		l.since[path] = fileSize(path)
	}
	f, err := os.OpenFile(l.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the engine's log: %w", err)
	}
	return f, nil
}

// evidence returns the last lines of the running or last process: of its own log, or of its output where that says nothing.
func (l *engineLog) evidence() string {
	for _, path := range []string{l.own, l.output} {
		if path == "" {
			continue
		}
		if text := lastLines(path, l.since[path]); text != "" {
			return text
		}
	}
	return ""
}

// bound cuts files that have grown too large to their last quarter. The writer appends, so it goes on at the new end; a line that it writes at that
// very moment may be lost.
func (l *engineLog) bound() error {
	var all error
	for _, path := range []string{l.output, l.own} {
		if path == "" || fileSize(path) <= engineLogLimit {
			continue
		}
		if err := cut(path, engineLogLimit/4); err != nil {
			all = errors.Join(all, fmt.Errorf("cut an engine's log: %w", err))
			continue
		}
		l.since[path] = 0
	}
	return all
}

func cut(path string, keep int64) error {
	f, err := openPlain(path, unix.O_RDWR|unix.O_APPEND)
	if err != nil {
		return err
	}
	defer f.Close()
	kept, err := tail(f, 0, keep)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.Write(kept)
	return err
}

// openPlain opens a file without following a symbolic link anywhere in its path: an engine owns the directory of its own log, and must not be able to
// make the agent, which may read everything, show or overwrite another file.
func openPlain(path string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK), Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func fileSize(path string) int64 {
	if path == "" {
		return 0
	}
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func lastLines(path string, from int64) string {
	f, err := openPlain(path, unix.O_RDONLY)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := tail(f, from, evidenceBytes)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > evidenceLines {
		lines = lines[len(lines)-evidenceLines:]
	}
	return strings.ToValidUTF8(strings.Join(lines, "\n"), "?")
}

// tail returns at most size bytes from the end of a file, none of them before from.
func tail(f *os.File, from, size int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < from { // it was cut or replaced since
		from = 0
	}
	return io.ReadAll(io.NewSectionReader(f, max(from, info.Size()-size), size))
}
