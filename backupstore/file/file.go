// Package file is the driver of package backupstore over a directory.
//
// Each object is one file below the directory of its container, under an encoded name; docs/drivers/backupstore-file.md shows the layout. A write goes to a file of its
// own, is synced, and gets its name last. Several processes may use one directory at once.
package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Config says where the store is.
type Config struct {
	Dir   string      // made if it is not there
	Clock clock.Clock // nil: the machine's
	// MinFree is how many bytes of the file system the store leaves free: Put beyond it is backupstore.ErrFull.
	MinFree int64
}

// Store is a store in a directory.
type Store struct {
	cfg  Config
	root directory
	temp directory
}

var _ backupstore.Store = (*Store)(nil)

const (
	tempDir = "unfinished"
	// tempAge keeps a file that another process has just made and not yet locked.
	tempAge = time.Minute
)

// Open opens the store and removes what writers left unfinished that are gone.
func Open(cfg Config) (*Store, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the object store: %w", err)
	}
	root, err := openRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the object store: %w", err)
	}
	s := &Store{cfg: cfg, root: root}
	if s.temp, err = root.enter(tempDir, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open the object store: %w", err), root.Close())
	}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the object store: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the store. Objects that were opened stay readable.
func (s *Store) Close() error { return errors.Join(s.temp.Close(), s.root.Close()) }

// sweep removes unfinished files whose writer is gone: a living one holds a lock.
func (s *Store) sweep() error {
	d, err := s.temp.enter(".", false)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := d.open(name, os.O_RDONLY)
		if err != nil {
			continue // not ours, or gone
		}
		info, err := f.Stat()
		old := err == nil && s.cfg.Clock.Now().Sub(info.ModTime()) > tempAge
		if old && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = unix.Unlinkat(d.fd(), name, 0)
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", filepath.Join(d.Name(), name), err)
		}
	}
	return nil
}

// Put implements backupstore.Store.
func (s *Store) Put(ctx context.Context, c backupstore.Container, name string, body io.Reader, o backupstore.PutOptions) (backupstore.Object, error) {
	if err := check(ctx, c, name, o); err != nil {
		return backupstore.Object{}, err
	}
	if err := s.room(max(o.Size, 0)); err != nil {
		return backupstore.Object{}, err
	}
	temp := rand.Text()
	f, err := s.temp.open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
	}
	defer f.Close()
	defer func() { _ = unix.Unlinkat(s.temp.fd(), temp, 0) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
	}
	object := backupstore.Object{Name: name, Modified: s.cfg.Clock.Now(), Meta: maps.Clone(o.Meta)}
	if err := s.write(ctx, f, body, &object, o); err != nil {
		return backupstore.Object{}, err
	}
	return s.publish(c, temp, object, o.IfAbsent)
}

func check(ctx context.Context, c backupstore.Container, name string, o backupstore.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store an object: %w", err)
	}
	return errors.Join(c.Check(), backupstore.CheckName(name), backupstore.CheckMeta(o.Meta))
}

// room says whether the file system has room for a size.
func (s *Store) room(size int64) error {
	if s.cfg.MinFree <= 0 {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(s.root.fd(), &fs); err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free-size < s.cfg.MinFree {
		return full(nil)
	}
	return nil
}

func full(err error) error {
	return trove.Wrap(trove.KindUnavailable, errors.Join(backupstore.ErrFull, err), "The object store has no room; remove what is not needed or give it more space.")
}

const (
	piece      = 256 << 10
	looksEvery = 64 << 20 // bytes between looks at the free space
)

// write copies the body and closes the file's content with the trailer, on the disk.
func (s *Store) write(ctx context.Context, f *os.File, body io.Reader, object *backupstore.Object, o backupstore.PutOptions) error {
	sum, buffer, looked := sha256.New(), make([]byte, piece), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("store an object: %w", err)
		}
		n, err := body.Read(buffer)
		sum.Write(buffer[:n])
		object.Size += int64(n)
		if o.Size >= 0 && object.Size > o.Size {
			return mismatch("It is longer than announced.")
		}
		if object.Size-looked > looksEvery {
			looked = object.Size
			if err := s.room(0); err != nil {
				return err
			}
		}
		if _, err := f.Write(buffer[:n]); err != nil {
			return written(err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	object.SHA256 = hex.EncodeToString(sum.Sum(nil))
	switch {
	case o.Size >= 0 && object.Size != o.Size:
		return mismatch("It is shorter than announced.")
	case o.SHA256 != "" && object.SHA256 != o.SHA256:
		return mismatch("Its SHA-256 is another one than announced.")
	}
	if err := writeTrailer(f, *object); err != nil {
		return written(err)
	}
	if err := f.Sync(); err != nil {
		return written(err)
	}
	return nil
}

func written(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return full(err)
	}
	return fmt.Errorf("store an object: %w", err)
}

func mismatch(why string) error {
	return trove.Wrap(trove.KindBadRequest, backupstore.ErrMismatch, "The object is not the one that was announced. %s", why)
}

// publish gives a written file its name.
func (s *Store) publish(c backupstore.Container, temp string, object backupstore.Object, ifAbsent bool) (backupstore.Object, error) {
	directories, file := split(object.Name)
	directories = append(path(c), directories...)
	for range 10 {
		parent, err := s.root.walk(directories, true)
		if errors.Is(err, os.ErrNotExist) {
			continue // pruned at this very moment
		}
		if err != nil {
			return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
		}
		if ifAbsent {
			err = unix.Linkat(s.temp.fd(), temp, parent.fd(), file, 0)
		} else {
			err = unix.Renameat(s.temp.fd(), temp, parent.fd(), file)
		}
		if err == nil {
			err = parent.Sync()
		}
		if errors.Is(err, os.ErrExist) {
			var there *os.File
			var same backupstore.Object
			if there, same, err = openObject(parent, file, object.Name); err == nil {
				_ = there.Close()
				parent.Close()
				if same.SHA256 == object.SHA256 && same.Size == object.Size {
					return same, nil
				}
				return backupstore.Object{}, backupstore.Exists(object.Name)
			}
		}
		parent.Close()
		if err == nil {
			return object, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
		}
	}
	return backupstore.Object{}, trove.Errorf(trove.KindUnavailable, "The object could not be stored: its container is being removed.")
}
