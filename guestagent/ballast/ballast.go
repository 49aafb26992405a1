// Package ballast keeps a little of a data volume out of the engine's reach, so that the agent can write down its commands, credentials and settings when the
// engine has filled the volume: the very commands that help then would otherwise be refused.
//
// The space is held by files of a fixed size. When a write of this process meets a full volume, one file is emptied and the write is tried again; the engine may be
// quicker now and then, so there are several. They are filled again when the volume has space. A Ballast may be used from several goroutines.
package ballast

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	pieces = 16
	size   = 256 << 10 // of each, in bytes
	enough = 4 * pieces * size
)

// Ballast is the reserve of one volume.
type Ballast struct {
	volume string
	dir    string
	log    *slog.Logger

	mu sync.Mutex
}

// Open returns the ballast in a directory of its own on the volume, which is made if it is missing. It reserves nothing yet.
func Open(volume, dir string, log *slog.Logger) (*Ballast, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the ballast: %w", err)
	}
	return &Ballast{volume: volume, dir: dir, log: log}, nil
}

func (b *Ballast) piece(n int) string { return filepath.Join(b.dir, strconv.Itoa(n)) }

// Refill takes the space that is missing, if the volume has plenty. It may be called often: with nothing missing it only looks.
func (b *Ballast) Refill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var st unix.Statfs_t
	if err := unix.Statfs(b.volume, &st); err != nil {
		return fmt.Errorf("fill the ballast: %w", err)
	}
	if int64(st.Bavail)*st.Bsize < enough {
		return nil
	}
	for n := range pieces {
		if blocks(b.piece(n)) >= size {
			continue
		}
		if err := take(b.piece(n)); err != nil && !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("fill the ballast: %w", err)
		}
	}
	return nil
}

// take gives a file its space. Where the file system cannot reserve, zeros take it.
func take(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, size), 0)
	}
	return err
}

func blocks(path string) int64 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Release gives back a piece for a file on the volume; false when the path is elsewhere or nothing is left.
func (b *Ballast) Release(path string) bool {
	if !strings.HasPrefix(path, b.volume+string(filepath.Separator)) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range pieces {
		if blocks(b.piece(n)) == 0 {
			continue
		}
		// Emptied, not removed: a file that is gone may keep its blocks for a moment.
		if err := os.Truncate(b.piece(n), 0); err != nil {
			b.log.Error("ballast was not given back", "err", err)
			return false
		}
		b.log.Warn("data volume is full: a piece of the agent's reserve was used", "left", pieces-n-1)
		return true
	}
	return false
}
