// Package keyfile keeps secret keys in files that only their owner can read.
//
// A key is made once, also if several processes start at the same time: one makes it, all use it. Functions may be
// called from several goroutines.
package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// LoadOrMake returns the content of the file. If there is no file it stores what makeKey returns, with mode 0600 and on the disk before it
// returns. A file that others than its owner may read or write, or that is not a regular file, is a permanent error: the key in it is not
// secret.
func LoadOrMake(path string, makeKey func() ([]byte, error)) ([]byte, error) {
	data, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	data, err = makeKey()
	if err != nil {
		return nil, fmt.Errorf("make the key for %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", path, err)
	}
	if err := storeNew(path, data); err != nil {
		return nil, fmt.Errorf("store the key %s: %w", path, err)
	}
	return Load(path) // another process may have been quicker: its key counts
}

// Load returns the content of the file, which must be there and be its owner's alone, as with LoadOrMake.
func Load(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %v: it must be a regular file that only its owner may use (chmod 600)", path, mode)
	}
	const most = 1 << 20
	if info.Size() > most {
		return nil, fmt.Errorf("key file %s has %d bytes: it is none", path, info.Size())
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	return data, nil
}

// storeNew makes the file with all of its content or does nothing because it exists: link(2) never replaces.
func storeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key.*") // CreateTemp's mode is 0600
	if err != nil {
		return err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Replace replaces the content of the file by what change makes of it: a reader, and the machine after a crash, sees the old content or the new one. Of
// several processes one follows the other. If change fails nothing is changed.
func Replace(path string, change func(old []byte) ([]byte, error)) error {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the key file %s: %w", path, err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the key file %s: %w", path, err)
	}
	old, err := Load(path)
	if err != nil {
		return err
	}
	data, err := change(old)
	if err != nil {
		return fmt.Errorf("replace the key file %s: %w", path, err)
	}
	return atomicfile.Write(path, data, 0o600)
}
