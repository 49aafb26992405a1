package fake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// state is the whole content of a fake database.
type state struct {
	InstanceID string           `json:"instance_id,omitempty"`
	Settings   engine.Settings  `json:"settings"`
	Databases  []trove.Database `json:"databases"`
	Users      []user           `json:"users"`
	Root       string           `json:"root,omitempty"`     // hash of the password, "" when disabled
	Version    string           `json:"version,omitempty"`  // of the programs that it was started with last
	Finished   string           `json:"finished,omitempty"` // of those that FinishUpgrade was called with last
	Logs       []string         `json:"logs,omitempty"`     // those that were switched on
	TLS        tlsState         `json:"tls,omitzero"`
	// Started are the overrides that the server was started with.
	Started map[string]json.RawMessage `json:"started,omitempty"`
	// Changed are parameters that somebody changed in the running server.
	Changed map[string]string `json:"changed,omitempty"`
}

type user struct {
	Name      string   `json:"name"`
	Host      string   `json:"host"`
	Hash      string   `json:"hash"`
	Databases []string `json:"databases,omitempty"`
}

func dataDir(l engine.Layout) string   { return filepath.Join(l.Data, "fake") }
func stateFile(l engine.Layout) string { return filepath.Join(dataDir(l), "state.json") }
func pidFile(l engine.Layout) string   { return filepath.Join(l.Runtime, "fake", "pid") }

// LogFile returns where the fake server writes its errors.
func LogFile(l engine.Layout) string { return filepath.Join(dataDir(l), "error.log") }

func read(l engine.Layout) (state, error) {
	var s state
	data, err := os.ReadFile(stateFile(l))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the fake database: %w", err)
	}
	return s, nil
}

func write(l engine.Layout, s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the fake database: %w", err)
	}
	return atomicfile.Write(stateFile(l), data, 0o600)
}

// change runs do on the content of a database that is up, and keeps the result.
func (e *Engine) change(op Op, l engine.Layout, do func(s *state) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, err := e.look(op, l)
	if err != nil {
		return err
	}
	if err := do(&s); err != nil {
		return err
	}
	return write(l, s)
}

// view returns the content of a database that is up.
func (e *Engine) view(op Op, l engine.Layout) (state, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.look(op, l)
}

// look is view for a caller who holds the lock.
func (e *Engine) look(op Op, l engine.Layout) (state, error) {
	if err := e.begin(op); err != nil {
		return state{}, err
	}
	if err := up(l); err != nil {
		return state{}, err
	}
	return read(l)
}

func hash(password trove.Secret) string {
	sum := sha256.Sum256([]byte(password.Reveal()))
	return hex.EncodeToString(sum[:])
}

// Initialise makes an empty database.
func (e *Engine) Initialise(_ context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpInitialise); err != nil {
		return err
	}
	if done, err := e.Initialised(l); err != nil || done {
		return err
	}
	if err := os.MkdirAll(dataDir(l), 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.Chown(dataDir(l), l.UID, l.GID); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return write(l, state{})
}

// Initialised reports whether the file is there.
func (e *Engine) Initialised(l engine.Layout) (bool, error) {
	_, err := os.Stat(stateFile(l))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Command starts a shell that notes its process id and becomes a program that sleeps.
func (e *Engine) Command(l engine.Layout) (engine.Command, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpCommand); err != nil {
		return engine.Command{}, err
	}
	dir := filepath.Dir(pidFile(l))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return engine.Command{}, fmt.Errorf("make the runtime directory: %w", err)
	}
	if err := os.Chown(dir, l.UID, l.GID); err != nil {
		return engine.Command{}, fmt.Errorf("make the runtime directory: %w", err)
	}
	script := e.script
	if s, err := read(l); err == nil { // a server that was not initialised is started as well
		if s.Version != "" && trove.CompareVersions(s.Version, e.version) != 0 {
			script = "echo the data is of version " + s.Version + " >&2; exit 1"
		} else {
			s.Version = e.version
		}
		s.Started, s.Changed = s.Settings.Overrides, nil
		if err := write(l, s); err != nil {
			return engine.Command{}, err
		}
	}
	if script == "" {
		script = "up; exec sleep infinity"
	}
	return engine.Command{
		Path: filepath.Join("/", l.Root, "bin/sh"),
		// $0 is the pid file and $1 the log; the id is written whole or not at all.
		Args: []string{"-c", `exec 2>>"$1"; up() { echo $$ >"$0.new" && mv "$0.new" "$0"; }; ` + script, pidFile(l), LogFile(l)},
		Env:  []string{"PATH=/usr/bin:/bin"}, Dir: "/", UID: l.UID, GID: l.GID, LogFile: LogFile(l),
	}, nil
}

// running reports whether the process of the pid file lives.
func running(l engine.Layout) (bool, error) {
	data, err := os.ReadFile(pidFile(l))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return false, fmt.Errorf("read the process id: %w", err)
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, nil //nolint:nilerr // it ended while it was being read
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z")) && !bytes.HasPrefix(rest, []byte("X")), nil
}
