// Package kept keeps a copy of an engine's data beside it on the data volume, until an upgrade is confirmed or taken back.
//
// A copy is whole or it is not there; it shares its blocks with the original where the file system can (xfs). Everything may be cut off anywhere and be
// called again. The engine must be down while data is kept or restored. A Place has no state of its own; calls for one volume must not overlap.
package kept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// Dir is the name of the directory on the volume.
const Dir = "trove-kept"

// Below it.
const (
	fresh     = "new"       // a copy that is being made
	whole     = "data"      // one that is whole
	gone      = "gone"      // one that is being removed
	noteFile  = "kept.json" // note
	stateName = ".state"    // in a copy: the driver's own directory
)

// Place is a data volume.
type Place struct {
	Data  string // its mount point
	State string // the agent's own directory on it, which is not copied
	// Driver is the engine driver's directory below State, which is; it need not be there.
	Driver string
	// For names the upgrade that keeps data: a copy of another one is of another time.
	For string
}

// note is what must be known of a copy.
type note struct {
	For     string   `json:"for,omitempty"`     // the upgrade that it was made for; "": an earlier release made it
	Names   []string `json:"names"`             // what was on the volume
	Touched bool     `json:"touched,omitempty"` // the original may have been changed since
}

func (p Place) in(names ...string) string {
	return filepath.Join(append([]string{p.Data, Dir}, names...)...)
}

// names lists what belongs to the engine.
func (p Place) names() ([]string, error) {
	entries, err := os.ReadDir(p.Data)
	if err != nil {
		return nil, fmt.Errorf("list the data volume: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != Dir && e.Name() != "lost+found" && filepath.Join(p.Data, e.Name()) != p.State {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Size is what a copy would take.
type Size struct {
	Bytes   int64 // of the data
	Free    int64 // on the volume
	Reflink bool  // a copy takes space only as far as the data changes
}

// margin is what must stay free for the engine and the agent.
const margin = 64 << 20

// Missing returns how many bytes are missing for a copy, 0 if there are enough. A copy that shares its blocks needs some for what the upgrade changes.
func (s Size) Missing() int64 {
	need := s.Bytes + s.Bytes/20
	if s.Reflink {
		need = s.Bytes / 10
	}
	return max(0, need+margin-s.Free)
}

// Measure looks how large the data is, and whether it can be copied without copying. It changes nothing.
func (p Place) Measure(ctx context.Context) (Size, error) {
	var s Size
	names, err := p.names()
	if err != nil {
		return s, err
	}
	for _, name := range names {
		n, err := blocks(ctx, filepath.Join(p.Data, name))
		if err != nil {
			return s, fmt.Errorf("measure the data: %w", err)
		}
		s.Bytes += n
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.Data, &st); err != nil {
		return s, fmt.Errorf("measure the data volume: %w", err)
	}
	s.Free = int64(st.Bavail) * st.Bsize
	s.Reflink, err = p.canReflink()
	return s, err
}

// canReflink tries it with a file of its own.
func (p Place) canReflink() (bool, error) {
	dir, err := os.MkdirTemp(p.State, ".reflink-*")
	if err != nil {
		return false, fmt.Errorf("try to share blocks: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	from := filepath.Join(dir, "a")
	if err := os.WriteFile(from, []byte("a"), 0o600); err != nil {
		return false, fmt.Errorf("try to share blocks: %w", err)
	}
	shared, err := clone(from, filepath.Join(dir, "b"))
	if err != nil {
		return false, fmt.Errorf("try to share blocks: %w", err)
	}
	return shared, nil
}

// Kept reports whether there is a whole copy.
func (p Place) Kept() (bool, error) {
	_, err := os.Stat(p.in(whole))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for kept data: %w", err)
	}
	return true, nil
}

// Own reports whether there is a whole copy that was made for the same upgrade, as far as that is known.
func (p Place) Own() (bool, error) {
	kept, err := p.Kept()
	if err != nil || !kept {
		return false, err
	}
	n, err := p.read()
	return err == nil && (n.For == p.For || n.For == ""), err
}

// Keep makes a copy, unless there is one; one of another upgrade goes. done is told how many bytes of the data are copied.
func (p Place) Keep(ctx context.Context, done func(bytes int64)) error {
	if own, err := p.Own(); err != nil || own {
		return err
	}
	names, err := p.names()
	if err != nil {
		return err
	}
	if err := p.Drop(); err != nil { // a half-made one, or another one
		return err
	}
	if err := os.MkdirAll(p.in(fresh), 0o700); err != nil {
		return fmt.Errorf("keep the data: %w", err)
	}
	c := copier{ctx: ctx, done: done}
	for _, name := range names {
		if err := c.tree(filepath.Join(p.Data, name), p.in(fresh, name)); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	if _, err := os.Lstat(p.Driver); err == nil {
		if err := c.tree(p.Driver, p.in(fresh, stateName)); err != nil {
			return fmt.Errorf("copy the driver's settings: %w", err)
		}
	}
	if err := p.write(note{For: p.For, Names: names}); err != nil {
		return err
	}
	if err := p.sync(); err != nil {
		return err
	}
	if err := os.Rename(p.in(fresh), p.in(whole)); err != nil {
		return fmt.Errorf("keep the data: %w", err)
	}
	return p.sync()
}

// Touch notes that the original is going to be changed: from now on Restore puts the copy in its place.
func (p Place) Touch() error {
	n, err := p.read()
	if err != nil || n.Touched {
		return err
	}
	n.Touched = true
	return p.write(n)
}

// Restore puts the copy in the place of the original and reports whether it did: without a copy, or with an original that nobody touched, the original
// stays. There is no copy afterwards.
func (p Place) Restore() (bool, error) {
	kept, err := p.Kept()
	if err != nil || !kept {
		return false, errors.Join(err, p.Drop())
	}
	n, err := p.read()
	if err != nil {
		return false, err
	}
	if !n.Touched {
		return false, p.Drop()
	}
	now, err := p.names()
	if err != nil {
		return false, err
	}
	for _, name := range now {
		if !slices.Contains(n.Names, name) {
			if err := os.RemoveAll(filepath.Join(p.Data, name)); err != nil {
				return false, fmt.Errorf("remove what the new version made: %w", err)
			}
		}
	}
	for _, name := range n.Names {
		if err := takePlace(p.in(whole, name), filepath.Join(p.Data, name)); err != nil {
			return false, err
		}
	}
	if err := takePlace(p.in(whole, stateName), p.Driver); err != nil {
		return false, err
	}
	if err := p.sync(); err != nil {
		return false, err
	}
	return true, p.Drop()
}

// takePlace moves from to where to was, unless an earlier run did.
func takePlace(from, to string) error {
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("remove what the new version changed: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("put the kept data in its place: %w", err)
	}
	return nil
}

// Drop removes the copy, whole or not. It may run while the engine does.
func (p Place) Drop() error {
	err := os.Rename(p.in(whole), p.in(gone)) // no half of it may look whole
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, name := range []string{gone, fresh, noteFile, ""} {
		if err == nil {
			err = os.RemoveAll(p.in(name))
		}
	}
	if err != nil {
		return fmt.Errorf("remove the kept data: %w", err)
	}
	return nil
}

func (p Place) read() (note, error) {
	var n note
	data, err := os.ReadFile(p.in(noteFile))
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		return n, fmt.Errorf("read what is kept: %w", err)
	}
	return n, nil
}

func (p Place) write(n note) error {
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("note what is kept: %w", err)
	}
	return atomicfile.Write(p.in(noteFile), data, 0o600)
}

// sync makes everything on the volume durable: one call for all files.
func (p Place) sync() error {
	d, err := os.Open(p.Data)
	if err != nil {
		return fmt.Errorf("sync the data volume: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the data volume: %w", err)
	}
	return nil
}
