package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
)

// Shelf holds finished copies of golden images, so that a create need only rename one. It is an optimisation: an empty shelf means a copy in the create.
// Copies are kept of the golden images that were asked for since the process began. It may be used from several goroutines.
type Shelf struct {
	dir  string
	want int

	mu     sync.Mutex
	asked  map[string]string // the shelf's name of a golden image -> its path
	signal chan struct{}     // something was taken
}

const (
	// quiet is how long nothing was taken before a copy is made: a copy takes processor and disk from the very create that took the last one.
	quiet = 400 * time.Millisecond
	// longest is how long that is put off at most.
	longest = 5 * time.Second
)

// partial marks a copy that is not finished.
const partial = ".part"

// NewShelf returns a shelf in dir with want copies of each golden image; 0 switches it off.
func NewShelf(dir string, want int) *Shelf {
	return &Shelf{dir: dir, want: want, asked: map[string]string{}, signal: make(chan struct{}, 1)}
}

// Take returns the path of a spare copy of the golden image, which belongs to the caller from now on, or "" if there is none. The key names the
// golden image on the shelf and must be a file name.
func (s *Shelf) Take(key, golden string) string {
	if s.want <= 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[key] = golden
	select {
	case s.signal <- struct{}{}:
	default:
	}
	for _, name := range s.spares(key) {
		// Taken off the shelf at once, so that nobody else gets it.
		taken := filepath.Join(s.dir, "taken-"+name)
		if os.Rename(filepath.Join(s.dir, name), taken) == nil {
			return taken
		}
	}
	return ""
}

// spares returns the finished copies of a golden image.
func (s *Shelf) spares(key string) []string {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), key+"@") && !strings.HasSuffix(e.Name(), partial) {
			names = append(names, e.Name())
		}
	}
	return names
}

// Run keeps the shelf filled until the context ends, in a goroutine of its own that ends with it. What an earlier process left unfinished is removed first. Report gets the errors; they are not fatal.
func (s *Shelf) Run(ctx context.Context, report func(error)) {
	if s.want <= 0 {
		return
	}
	if err := s.tidy(); err != nil {
		report(err)
	}
	// The thread is this goroutine's own, and ends with it.
	runtime.LockOSThread()
	if err := yieldToOthers(); err != nil {
		report(err)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signal:
		}
		if err := s.fill(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
	}
}

// yieldToOthers makes the thread run and write when nobody else wants to.
func yieldToOthers() error {
	const lowest, process, idle = 19, 1, 3 << 13
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, lowest); err != nil {
		return fmt.Errorf("lower the priority of the shelf: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, process, 0, idle); errno != 0 {
		return fmt.Errorf("lower the priority of the shelf on the disk: %w", errno)
	}
	return nil
}

// untilQuiet returns when nothing was taken for a while, or the shelf is empty: then the next one would wait for a whole copy.
func (s *Shelf) untilQuiet(ctx context.Context) {
	limit := time.NewTimer(longest)
	defer limit.Stop()
	pause := time.NewTimer(quiet)
	defer pause.Stop()
	for {
		if _, _, spares := s.scarcest(); spares == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-pause.C:
			return
		case <-s.signal:
			pause.Reset(quiet)
		}
	}
}

func (s *Shelf) tidy() error {
	entries, err := os.ReadDir(s.dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tidy the shelf: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), partial) || strings.HasPrefix(e.Name(), "taken-") {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("tidy the shelf: %w", err)
			}
		}
	}
	return nil
}

func (s *Shelf) fill(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("fill the shelf: %w", err)
	}
	for {
		if key, _, _ := s.scarcest(); key == "" {
			return nil
		}
		s.untilQuiet(ctx)
		key, golden, _ := s.scarcest() // another one may be short by now
		path := filepath.Join(s.dir, key+"@"+trove.NewID())
		if err := Copy(ctx, golden, path+partial); err != nil {
			return fmt.Errorf("fill the shelf: %w", err)
		}
		if err := os.Rename(path+partial, path); err != nil {
			return fmt.Errorf("fill the shelf: %w", err)
		}
	}
}

// scarcest returns the golden image with the fewest spares, and how many, of those that have too few; "" if none has.
func (s *Shelf) scarcest() (key, golden string, spares int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spares = s.want
	for k, g := range s.asked {
		if n := len(s.spares(k)); n < spares {
			key, golden, spares = k, g, n
		}
	}
	return key, golden, spares
}
