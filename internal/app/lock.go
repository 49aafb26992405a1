package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
)

// The lock on trove.pid is held by the whole service in one process alone, or by single components together; each of these has a lock of its
// own besides, with the name of the process in it if it is a further one ("trove-api@two.pid"). A file holds the process id of who has the lock; the lock on
// it is what counts.
//
// The cloud of a machine has one owner: of several taskmanagers the one that holds the lock on trove-cloud.lock works, the others stand by.

func (s StateDir) lockFile() string { return s.Path("trove.pid") }

func (s StateDir) componentLock(process string) string { return s.Path("trove-" + process + ".pid") }

func (s StateDir) cloudLock() string { return s.Path("trove-cloud.lock") }

// locks are files whose locks end with the process, or with Close.
type locks []*os.File

// Close gives the locks back.
func (l locks) Close() error {
	var errs []error
	for _, f := range l {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// lockPatience is how long a lock is tried for that somebody has who is not in the way, and has it for a moment only: a busy machine may make it a long one.
const lockPatience = 5 * time.Second

// Lock makes this process the one that runs the components of the directory, until it ends or closes what is returned. Whatever runs already and is
// in the way is a Conflict that names it. AllComponents are in the way of every other.
func (s StateDir) Lock(ctx context.Context, c Components) (io.Closer, error) {
	for waited := clock.Stopwatch(); waited() < lockPatience; {
		held, err := s.take(c)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return held, err
		}
		if err := s.inTheWay(c); err != nil {
			return nil, err
		}
		// It has ended meanwhile, or only somebody looked whether it runs, which takes the lock for a moment.
		if err := clock.Sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, trove.Errorf(trove.KindConflict, "Another process starts or ends at %s at this moment; try again.", s)
}

// take takes all locks that the components need. EWOULDBLOCK says that another process has one.
func (s StateDir) take(c Components) (_ locks, err error) {
	var held locks
	defer func() {
		if err != nil {
			_ = held.Close()
		}
	}()
	how := syscall.LOCK_SH
	names := c.processes()
	if c == AllComponents {
		how, names = syscall.LOCK_EX, nil
	}
	f, err := take(s.lockFile(), how)
	if err != nil {
		return nil, err
	}
	held = append(held, f)
	for _, name := range names {
		if f, err = take(s.componentLock(name), syscall.LOCK_EX); err != nil {
			return nil, err
		}
		held = append(held, f)
	}
	return held, nil
}

// inTheWay says what runs that c cannot run beside; nil: nothing.
func (s StateDir) inTheWay(c Components) error {
	running, err := s.Running()
	if err != nil {
		return err
	}
	if running.All != 0 {
		return trove.Errorf(trove.KindConflict, "A control plane already runs from %s (process %d); `trove dev stop --state %s` stops it.", s, running.All, s)
	}
	if c == AllComponents && len(running.Components) > 0 {
		return trove.Errorf(trove.KindConflict,
			"Single components already run from %s (%s); the whole service in one process does not run beside them. `trove dev stop --state %s` stops them.",
			s, running, s)
	}
	for _, name := range c.processes() {
		if pid := running.Components[name]; pid != 0 {
			return trove.Errorf(trove.KindConflict, "trove-%s already runs from %s (process %d); a further one needs a name of its own, `--name`.", name, s, pid)
		}
	}
	return nil
}

// standbyLook is how often a taskmanager that stands by looks whether its turn has come.
const standbyLook = 100 * time.Millisecond

// LockCloud makes this process the one that works with the machine's cloud, until it ends or closes what is returned. It waits for another process that is;
// waits is called once, with its id, when it has to. The error is that of ctx.
func (s StateDir) LockCloud(ctx context.Context, waits func(pid int)) (io.Closer, error) {
	for waited := false; ; waited = true {
		f, err := take(s.cloudLock(), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, err
		}
		if !waited {
			pid, _ := holder(s.cloudLock()) // for people only; it may be on its way out
			waits(pid)
		}
		if err := clock.Sleep(ctx, standbyLook); err != nil {
			return nil, err //nolint:wrapcheck // the context's
		}
	}
}

// take locks a file, without waiting, and notes the process in it if it is locked for this process alone.
func take(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil && how == syscall.LOCK_EX {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	return f, nil
}

// holder returns the process id in a lock file that another process has locked for itself alone, 0 if none has.
func holder(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, err //nolint:wrapcheck // flock fails for no reason that a user could mend
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the lock of the state directory: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, trove.Errorf(trove.KindUnavailable, "%s does not say which process it belongs to; it is being started.", path)
	}
	return pid, nil
}

// Running is what runs from a state directory.
type Running struct {
	All        int            // process id of the whole service in one process, 0 if that does not run
	Components map[string]int // process ids of single components by name: "api", and "api@two" of a process with a name
}

// Running returns which processes run from the directory.
func (s StateDir) Running() (Running, error) {
	r := Running{Components: map[string]int{}}
	var err error
	if r.All, err = holder(s.lockFile()); err != nil {
		return r, err
	}
	files, err := filepath.Glob(s.componentLock("*"))
	if err != nil {
		return r, fmt.Errorf("look for locks of components: %w", err)
	}
	for _, file := range files {
		pid, err := holder(file)
		if err != nil {
			return r, err
		}
		if pid != 0 {
			name := strings.TrimSuffix(filepath.Base(file), ".pid")
			r.Components[strings.TrimPrefix(name, "trove-")] = pid
		}
	}
	return r, nil
}

// names returns the names of the components that run, in the order in which a reader expects them.
func (r Running) names() []string {
	order := func(name string) int { return slices.Index(AllComponents.Names(), component(name)) }
	return slices.SortedFunc(maps.Keys(r.Components), func(a, b string) int { return cmp.Or(order(a)-order(b), strings.Compare(a, b)) })
}

// component returns the component that a process of this name runs.
func component(process string) string {
	name, _, _ := strings.Cut(process, "@")
	return name
}

// Processes returns the process ids, each once.
func (r Running) Processes() []int {
	var all []int
	if r.All != 0 {
		all = append(all, r.All)
	}
	for _, name := range r.names() {
		if pid := r.Components[name]; !slices.Contains(all, pid) {
			all = append(all, pid)
		}
	}
	return all
}

// Missing returns the names of the components that do not run, as processes are called.
func (r Running) Missing() []string {
	running := map[string]bool{}
	for name := range r.Components {
		running[component(name)] = true
	}
	var all []string
	for _, name := range AllComponents.Names() {
		if r.All == 0 && !running[name] {
			all = append(all, "trove-"+name)
		}
	}
	return all
}

// String says what runs, for people: "trove-api: process 12, trove-conductor: process 13".
func (r Running) String() string {
	if r.All != 0 {
		return fmt.Sprintf("process %d", r.All)
	}
	var all []string
	for _, name := range r.names() {
		all = append(all, fmt.Sprintf("trove-%s: process %d", name, r.Components[name]))
	}
	return strings.Join(all, ", ")
}
