// Package atomicfile replaces files so that a reader, or the machine after a crash, sees the old content or the new one and nothing between.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// reserve is what is asked for space on a full file system; nil: nobody. It is the whole process's, because whoever writes does not know on which volume.
var reserve atomic.Pointer[func(path string) bool]

// SetReserve sets what Write asks when a file system is full, with the path that is written to. While it returns true, having made space, Write tries again; it must
// come to an end. nil takes it away.
func SetReserve(release func(path string) bool) {
	if release == nil {
		reserve.Store(nil)
		return
	}
	reserve.Store(&release)
}

// Write replaces the file with data and the permission bits. When it returns nil the content is on the disk. On an error the old file is as it
// was. It may be repeated; of two at the same time one wins whole.
func Write(path string, data []byte, perm os.FileMode) error {
	return again(path, func() error {
		return Stream(path, perm, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	})
}

// again writes until there is space, or nobody who makes some.
func again(path string, write func() error) error {
	for {
		err := write()
		if err == nil || !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if release := reserve.Load(); release == nil || !(*release)(path) {
			return err
		}
	}
}

// Rewrite is Write for a file that keeps its permission bits, and its owner and group as far as this process may give files away. Perm is for a file that is
// not there yet.
func Rewrite(path string, data []byte, perm os.FileMode) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return Write(path, data, perm)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return again(path, func() error {
		return stream(path, info.Mode().Perm(), info, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	})
}

// Stream is Write for a content that write produces piece by piece. An error of write comes back wrapped, and the old file stays. It asks nobody for space.
func Stream(path string, perm os.FileMode, write func(io.Writer) error) error {
	return stream(path, perm, nil, write)
}

// stream gives the file the owner and group of another one, unless that is nil.
func stream(path string, perm os.FileMode, like os.FileInfo, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
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
	if err = own(f, like); err != nil {
		return err
	}
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if err = write(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// own gives a file to the owner and group of another one. Who may not do that stays its owner.
func own(f *os.File, like os.FileInfo) error {
	if like == nil {
		return nil
	}
	of, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	// The group apart: who may not give the file to somebody else may give it to a group of his.
	for _, err := range []error{f.Chown(-1, int(of.Gid)), f.Chown(int(of.Uid), -1)} {
		if err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
