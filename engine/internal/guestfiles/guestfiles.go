// Package guestfiles makes the files and directories that a database server in a guest reads, for the account that it runs as, and the certificate that it shows
// while nobody gave it one. All drivers of real servers use it.
//
// What it makes is never there with another owner or mode, or in part. It follows no symbolic link at the end of a path; the folders above belong to root, and that
// is the caller's to see to. Its functions keep nothing and may be called from several goroutines.
package guestfiles

import (
	"fmt"
	"os"
	"path/filepath"
)

// EnsureDir makes a directory with this owner and mode, or gives an existing one both. Its parent must be root's.
func EnsureDir(path string, perm os.FileMode, uid, gid int) error {
	if err := os.Mkdir(path, perm); err != nil && !os.IsExist(err) {
		return fmt.Errorf("make directory: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("make directory %s: something else is there", path)
	}
	if err := os.Chmod(path, perm); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Lchown(path, uid, gid); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// Write replaces a file in the tmpfs that the engine's account reads. It is never there with another owner or mode, not even for a moment.
func Write(path string, data []byte, perm os.FileMode, uid, gid int) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chown(uid, gid); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Exists reports whether a file is there.
func Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}
