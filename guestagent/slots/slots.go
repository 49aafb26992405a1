// Package slots is what a guest's first process and its agent tell each other about releases of the agent, in files.
//
// The first process comes from the image and is not upgraded with the agent, so both sides may be of different releases: fields are only added, and
// unknown ones ignored. Each file has one writer, and is replaced whole. On the data volume:
//
//	agents/<version>/    a release, written by the agent; nothing in it is believed before it was verified
//	agents/wanted.json   Wanted: written by an agent that shall be replaced, before it ends; removed by the first process
//	agents/state.json    State: written by the first process
//
// and in the runtime directory, which a start of the machine empties:
//
//	agent.life           Life: written by the agent that runs, until it is well
//
// Functions may be called from several goroutines.
package slots

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// EnvInit is the variable by which the first process tells the agent that it can switch between releases: its value is the version in the image. An
// agent that does not find it offers no upgrade.
const EnvInit = "TROVE_GUEST_INIT"

// LifeFile is the name of Life's file in the runtime directory.
const LifeFile = "agent.life"

const (
	stateFile  = "state.json"
	wantedFile = "wanted.json"
	maxFile    = 64 << 10
)

// The time that a new release has to show that it is well, where the command does not say.
const (
	DefaultHealthy = 60 * time.Second
	MinHealthy     = 5 * time.Second
	MaxHealthy     = 10 * time.Minute
)

// Trial is a release on probation.
type Trial struct {
	Version  string        `json:"version"`
	Op       string        `json:"op"`        // the command that asked for it
	EngineUp bool          `json:"engine_up"` // the engine answered when it was asked for: it has to answer the new agent as well
	Bus      []string      `json:"bus"`       // addresses where the one before was connected; empty: it was not
	Healthy  time.Duration `json:"healthy"`   // how long the new one may take
	Starts   int           `json:"starts"`    // how often it was started
}

// Wanted asks for a switch.
type Wanted = Trial

// Failed is a release that was refused or taken back. It is not tried again before it is wanted again.
type Failed struct {
	Version  string `json:"version"`
	Op       string `json:"op,omitempty"` // "": it was no switch, the release could not be run any more
	Sentence string `json:"sentence"`
	Refused  bool   `json:"refused,omitempty"` // it was never started
}

// State is which release runs. The zero value is that of a new guest: the program in the image.
type State struct {
	Current  string  `json:"current,omitempty"`  // "": the image's
	Previous string  `json:"previous,omitempty"` // "": the image's
	Highest  string  `json:"highest,omitempty"`  // that was ever well
	Trial    *Trial  `json:"trial,omitempty"`
	Failed   *Failed `json:"failed,omitempty"` // the last one
}

// Life is what the agent that runs says of itself.
type Life struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
	Engine  int    `json:"engine,omitempty"` // process id of the engine that it has found or started
	Service string `json:"service"`          // trove.ServiceStatus; "": it has not looked yet
	Bus     bool   `json:"bus"`              // it has said hello
}

// Dir is the directory agents on the data volume.
type Dir string

// Release returns the directory of a release.
func (d Dir) Release(version string) string { return filepath.Join(string(d), version) }

// ReadState returns the zero State if there is none.
func (d Dir) ReadState() (State, error) { return read[State](filepath.Join(string(d), stateFile)) }

// WriteState has the state on the disk when it returns nil.
func (d Dir) WriteState(s State) error { return write(filepath.Join(string(d), stateFile), s) }

// ReadWanted returns nil if nothing is wanted.
func (d Dir) ReadWanted() (*Wanted, error) {
	return read[*Wanted](filepath.Join(string(d), wantedFile))
}

// WriteWanted has the wish on the disk when it returns nil; then the agent may end.
func (d Dir) WriteWanted(w Wanted) error { return write(filepath.Join(string(d), wantedFile), w) }

// DropWanted forgets what is wanted.
func (d Dir) DropWanted() error { return remove(filepath.Join(string(d), wantedFile)) }

// Prune removes the releases that are none of keep, and what was left half-written.
func (d Dir) Prune(keep ...string) error {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for old releases: %w", err)
	}
	kept := map[string]bool{}
	for _, k := range keep {
		kept[k] = true
	}
	for _, e := range entries {
		if !e.IsDir() || kept[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(string(d), e.Name())); err != nil {
			return fmt.Errorf("remove an old release: %w", err)
		}
	}
	return nil
}

// Floor is the oldest version that may be run: older ones are downgrades. inImage is the one in the image, which nobody in the guest can change.
func (s State) Floor(inImage string) agentrelease.Version {
	floor := agentrelease.VersionOf(inImage)
	if h := agentrelease.VersionOf(s.Highest); floor.Less(h) {
		floor = h
	}
	return floor
}

// ReadLife returns the zero Life if the agent has said nothing.
func ReadLife(runtime string) (Life, error) { return read[Life](filepath.Join(runtime, LifeFile)) }

// WriteLife replaces what the agent says of itself.
func WriteLife(runtime string, l Life) error { return write(filepath.Join(runtime, LifeFile), l) }

func read[T any](path string) (T, error) {
	var v T
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe in its place must not stop the first process
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return v, fmt.Errorf("read %s: it is not a small file", path)
	}
	if err := json.NewDecoder(f).Decode(&v); err != nil {
		var none T
		return none, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return v, nil
}

func write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return atomicfile.Write(path, data, 0o600)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", filepath.Base(path), err)
	}
	return nil
}
