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
	for {
		err := Stream(path, perm, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
		if err == nil || !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if release := reserve.Load(); release == nil || !(*release)(path) {
			return err
		}
	}
}

// Stream is Write for a content that write produces piece by piece. An error of write comes back wrapped, and the old file stays. It asks nobody for space.
func Stream(path string, perm os.FileMode, write func(io.Writer) error) (err error) {
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
