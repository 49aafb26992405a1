// Package sandbox runs one guest in a sandbox made by runc: namespaces of its own (user ids included), a read-only root, a system call filter, a
// short list of capabilities, limits.
//
// A sandbox outlives the process that started it. Everything about it is found again by its id: runc's state file names the first
// process and when it started, so looking costs no fork. The one thing that callers must see to is that no two calls are made for the same id at the same time;
// otherwise a Runtime may be used from several goroutines.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
)

// Spec is what a sandbox shall be. All paths are of the host; those that are mounted must be reachable through directories that everybody may
// pass, because the sandbox's root is nobody on the host.
type Spec struct {
	ID       string // names the sandbox and its control group
	Hostname string
	Bundle   string // directory for what runc reads; exists
	Root     string // root file system with mapped ids; its mount points (/proc, /dev, /run, /tmp and those of Binds) exist
	Binds    []Bind
	Args     []string
	Netns    string // path of a network namespace; "" for an empty one of its own
	BaseID   uint32 // host's id of user and group 0
	Console  string // file that takes what the sandbox writes to its output; created if missing, appended to
	Limits   cgroup.Limits
}

// Bind is a directory that appears in the sandbox with the attributes that its mount on the host has.
type Bind struct {
	Source string
	Target string
}

// Process is the first process of a sandbox that runs.
type Process struct {
	PID     int
	Started uint64 // clock ticks since the machine started; with the PID it names the process for ever
	BootID  string // differs for each start of a sandbox, also after the host was restarted
}

// ErrNotRunning says that the sandbox has no living process.
var ErrNotRunning = errors.New("the sandbox is not running")

// Runtime makes sandboxes. Its fields are set before use and not changed.
type Runtime struct {
	Dir    string // directory of runc's state, made if missing; on a tmpfs, so that it is gone when the machine was restarted
	Parent string // control group that the sandboxes' groups are made in, for example "/trove-1a2b3c4d"
	Groups *cgroup.Tree
	Log    *slog.Logger
}

// startTimeout is how long runc may take to start a sandbox.
const startTimeout = 2 * time.Minute

// Group returns the control group of a sandbox.
func (r *Runtime) Group(id string) string { return r.Parent + "/" + id }

// Start starts the sandbox, which must not run. What is left of an earlier run is cleared away first.
func (r *Runtime) Start(ctx context.Context, s Spec) error {
	console, err := openConsole(s.Console, s.BaseID)
	if err != nil {
		return fmt.Errorf("start sandbox %s: %w", s.ID, err)
	}
	defer console.Close()
	// The sandbox keeps the descriptors, so they must be files: a pipe would end with this process.
	return r.run(ctx, s, "--detach", console)
}

// Try runs the sandbox to the end of its first process and returns what that wrote. Nothing of it is left.
func (r *Runtime) Try(ctx context.Context, s Spec) (string, error) {
	var out bytes.Buffer
	err := r.run(ctx, s, "--keep=false", &out)
	return out.String(), errors.Join(err, r.Remove(context.WithoutCancel(ctx), s.ID))
}

// run runs runc with one more option.
func (r *Runtime) run(ctx context.Context, s Spec, option string, output io.Writer) error {
	if err := r.Remove(ctx, s.ID); err != nil {
		return err
	}
	config, err := s.config(r.Group(s.ID))
	if err != nil {
		return err
	}
	if err := writeConfig(s.Bundle, config); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("start sandbox %s: %w", s.ID, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the runtime took longer than 2 min"))
	defer cancel()
	logfile := filepath.Join(s.Bundle, "runc.log")
	cmd := execx.Command(ctx, execx.Cmd{
		Path: "runc", Args: []string{"--root", r.Dir, "--log", logfile, "run", option, "--bundle", s.Bundle, s.ID},
	})
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		said := tail(logfile)
		cleanup, stop := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer stop()
		if rmErr := r.Remove(cleanup, s.ID); rmErr != nil {
			r.Log.WarnContext(ctx, "half-started sandbox was not cleared away", "instance", s.ID, "err", rmErr)
		}
		return fmt.Errorf("start sandbox %s: runc: %w: %s", s.ID, err, said)
	}
	return nil
}

// Find returns the first process of a sandbox, ErrNotRunning if there is none that lives.
func (r *Runtime) Find(id string) (Process, error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, id, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return Process{}, ErrNotRunning
	}
	if err != nil {
		return Process{}, fmt.Errorf("find sandbox %s: %w", id, err)
	}
	var state struct {
		PID     int    `json:"init_process_pid"`
		Started uint64 `json:"init_process_start"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return Process{}, fmt.Errorf("find sandbox %s: read the runtime's state: %w", id, err)
	}
	if state.PID <= 0 || !alive(state.PID, state.Started) {
		return Process{}, ErrNotRunning
	}
	return Process{PID: state.PID, Started: state.Started, BootID: fmt.Sprintf("%s-%d-%d", hostBoot(), state.PID, state.Started)}, nil
}

// Sandboxes returns the ids of all sandboxes that the runtime has a trace of, running or not.
func (r *Runtime) Sandboxes() ([]string, error) {
	entries, err := os.ReadDir(r.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	groups, err := r.Groups.Groups(r.Parent)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		groups = append(groups, e.Name())
	}
	return unique(groups), nil
}

// Stop asks the first process to end, waits for at most grace and then kills the sandbox. One that does not run is fine. When it returns nil,
// every process of the sandbox is gone.
func (r *Runtime) Stop(ctx context.Context, id string, grace time.Duration) error {
	p, err := r.Find(id)
	if errors.Is(err, ErrNotRunning) {
		return r.killRest(ctx, id)
	}
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return r.killRest(ctx, id) // ended in between
	}
	defer func() { _ = unix.Close(fd) }()
	if !alive(p.PID, p.Started) {
		return r.killRest(ctx, id) // the descriptor may be of another process that got the number
	}
	if err := askToEnd(ctx, fd, p.PID, grace); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("stop sandbox %s: %w", id, context.Cause(ctx))
		}
		if grace > 0 {
			r.Log.WarnContext(ctx, "sandbox did not end when asked and was killed", "instance", id, "took", grace)
		}
		if err := kill(ctx, fd); err != nil {
			return fmt.Errorf("kill sandbox %s: %w", id, err)
		}
	}
	return r.killRest(ctx, id)
}

// Remove clears away what is left of a sandbox; one that still runs is killed. It may be repeated.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	if err := r.Stop(ctx, id, 0); err != nil {
		return err
	}
	if err := r.Groups.Remove(r.Group(id)); err != nil {
		return err
	}
	// With no process and no control group, runc's own deletion would have nothing left to do but this.
	if err := os.RemoveAll(filepath.Join(r.Dir, id)); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return nil
}

// Close removes what all sandboxes share, if no sandbox is left.
func (r *Runtime) Close() error {
	if err := r.Groups.Remove(r.Parent); err != nil {
		return err
	}
	return os.RemoveAll(r.Dir)
}

// killRest kills what is in the control group: the processes of a start that was cut off, before or after the first process ran.
func (r *Runtime) killRest(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("processes of sandbox %s did not end when killed", id))
	defer cancel()
	for {
		pids, err := r.Groups.Processes(r.Group(id))
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if err := clock.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

func writeConfig(bundle string, config any) error {
	data, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// openConsole opens the file for the sandbox's output. It belongs to the sandbox's root, which can then open /dev/stderr.
func openConsole(path string, owner uint32) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the console: %w", err)
	}
	if err := f.Chown(int(owner), int(owner)); err != nil {
		f.Close()
		return nil, fmt.Errorf("open the console: %w", err)
	}
	return f, nil
}

// tail returns the last lines of a file, as one.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "it left no log"
	}
	if over := len(data) - 1024; over > 0 {
		data = data[over:]
	}
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "; ")
}
