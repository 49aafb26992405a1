package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
)

const gib = int64(1) << 30

// runRoot is on a tmpfs on every system, and everybody may pass through it: a sandbox's root, who is nobody on the host, must walk to its mounts.
const runRoot = "/run"

// paths are the places of a deployment.
type paths struct {
	state string // absolute, without links
	files string // directory of what must outlive a restart of the machine: state, unless the configuration has another
	name  string // of what is outside the state directory
	run   string
}

func newPaths(state string) paths {
	name := deploymentName(state)
	return paths{state: state, files: state, name: name, run: filepath.Join(runRoot, name)}
}

func (p paths) make() error {
	for _, dir := range []string{p.instancesDir(), p.locks()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, dir := range []string{p.run, p.mounted()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // passing through is needed, listing is not allowed
			return err
		}
		// Whatever the process's mask is.
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above
			return err
		}
	}
	// For people and tools who find the directory and want to know whose it is.
	return os.WriteFile(filepath.Join(p.run, "state"), []byte(p.state+"\n"), 0o600)
}

func (p paths) instancesDir() string      { return filepath.Join(p.files, "instances") }
func (p paths) shelf() string             { return filepath.Join(p.files, "shelf") }
func (p paths) instance(id string) string { return filepath.Join(p.instancesDir(), id) }
func (p paths) image(id string) string    { return filepath.Join(p.instance(id), "volume.img") }

func (p paths) volumeRecord(id string) string { return filepath.Join(p.instance(id), "volume.json") }

func (p paths) machineRecord(id string) string { return filepath.Join(p.instance(id), "machine.json") }

func (p paths) oldConsole(id string) string  { return filepath.Join(p.instance(id), "console.log") }
func (p paths) runc() string                 { return filepath.Join(p.run, "runc") }
func (p paths) locks() string                { return filepath.Join(p.run, "locks") }
func (p paths) loops() string                { return filepath.Join(p.run, "loops") }
func (p paths) mounted() string              { return filepath.Join(p.run, "i") }
func (p paths) runInstance(id string) string { return filepath.Join(p.mounted(), id) }
func (p paths) in(id, name string) string    { return filepath.Join(p.runInstance(id), name) }
func (p paths) console(id string) string     { return p.in(id, "console.log") }

// instances returns the ids of all instances that have anything.
func (p paths) instances() ([]string, error) {
	var ids []string
	for _, dir := range []string{p.instancesDir(), p.mounted()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list the instances: %w", err)
		}
		for _, e := range entries {
			if trove.ValidID(e.Name()) {
				ids = append(ids, e.Name())
			}
		}
	}
	return sortedUnique(ids), nil
}

// lockTimeout is longer than anything that is done under a lock.
const lockTimeout = 2 * time.Minute

// lock takes the lock of an instance, or of "pool", also against other processes. The returned function gives it back; with remove the lock's file goes too.
func (p paths) lock(ctx context.Context, name string) (unlock func(remove bool), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, fmt.Errorf("another call for %s did not end", name))
	defer cancel()
	path := filepath.Join(p.locks(), name)
	for {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("lock %s: %w", name, context.Cause(ctx))
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && samefile(f, path) {
			return func(remove bool) {
				if remove {
					_ = os.Remove(path)
				}
				f.Close()
			}, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
	}
}

// samefile reports whether the path still is the open file: the last holder may have removed it.
func samefile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// volumeRecord is what must be known of a volume beside its image file. It is written before the volume is made or grown.
type volumeRecord struct {
	SizeGiB int    `json:"size_gib"`
	Type    string `json:"type"`
	ImageID string `json:"image_id"`
	Project string `json:"project"`
	// Made says that the image was whole once: if it is gone then, it is lost, and not only half-made.
	Made bool `json:"made,omitempty"`
}

// machineRecord is what a machine was asked to be.
type machineRecord struct {
	Project  string       `json:"project"`
	Name     string       `json:"name"`
	ImageID  string       `json:"image_id"`
	Flavor   trove.Flavor `json:"flavor"`
	Zone     string       `json:"zone,omitempty"`
	BootData []byte       `json:"boot_data"`
	Stopped  bool         `json:"stopped"` // on request
	// PreviousImageID is for the start that was asked for last.
	PreviousImageID string `json:"previous_image_id,omitempty"`
}

// readRecord reads a record; the error matches os.ErrNotExist if there is none.
func readRecord[T volumeRecord | machineRecord](path string) (T, error) {
	var r T
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func writeRecord[T volumeRecord | machineRecord](path string, r T) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
