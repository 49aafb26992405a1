package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/backupstore"
)

// directory is an open directory. Everything is opened relative to one, a component at a time and never through a symbolic link: who can write into the tree, and
// there should be nobody, cannot make the store read or write elsewhere.
type directory struct{ *os.File }

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY

func openRoot(path string) (directory, error) {
	f, err := os.OpenFile(path, dirFlags, 0)
	if err != nil {
		return directory{}, err
	}
	return directory{f}, nil
}

func (d directory) fd() int { return int(d.Fd()) }

// open opens what has the name in the directory.
func (d directory) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(d.fd(), name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK),
		Mode:    mode(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(d.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(d.Name(), name)), nil
}

func mode(flags int) uint64 {
	if flags&unix.O_CREAT != 0 {
		return 0o600
	}
	return 0
}

// enter opens a directory in the directory; with create it is made if it is not there, and is on the disk when enter returns.
func (d directory) enter(name string, create bool) (directory, error) {
	f, err := d.open(name, dirFlags)
	if err == nil || !create || !errors.Is(err, os.ErrNotExist) {
		return directory{f}, err
	}
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return directory{}, &os.PathError{Op: "mkdir", Path: filepath.Join(d.Name(), name), Err: err}
	}
	if err := d.Sync(); err != nil {
		return directory{}, err
	}
	f, err = d.open(name, dirFlags)
	return directory{f}, err
}

// walk enters one directory after another. The last one is returned, open.
func (d directory) walk(names []string, create bool) (directory, error) {
	at := d
	for i, name := range names {
		next, err := at.enter(name, create)
		if i > 0 {
			at.Close()
		}
		if err != nil {
			return directory{}, err
		}
		at = next
	}
	if len(names) == 0 {
		return d.enter(".", false)
	}
	return at, nil
}

// path returns the directories of a container.
func path(c backupstore.Container) []string {
	project := "deployment" // encoded projects have an ending, so none is named so
	if c.Project != "" {
		project = encode(c.Project) + directoryEnd
	}
	return []string{project, encode(c.Name) + directoryEnd}
}

// prune removes directories that have become empty, from the innermost up, until one is not. A Put that has just entered one finds it gone and makes it anew.
func (d directory) prune(names []string) error {
	for len(names) > 0 {
		last := len(names) - 1
		parent, err := d.walk(names[:last], false)
		if errors.Is(err, os.ErrNotExist) {
			names = names[:last]
			continue
		}
		if err != nil {
			return err
		}
		err = unix.Unlinkat(parent.fd(), names[last], unix.AT_REMOVEDIR)
		parent.Close()
		switch {
		case errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST):
			return nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("remove an empty directory: %w", err)
		}
		names = names[:last]
	}
	return nil
}
