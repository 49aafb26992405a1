package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
)

// Directories is a store of files that others laid down, to be read as they are: the first segment of a name says which directory, the rest which file
// below it. It is the same whatever the container, cannot be written and lists nothing. Links are not followed.
type Directories struct {
	paths map[string]string

	mu   sync.Mutex
	sums map[string]summed
}

// summed is a file's hash, as long as the file is the same.
type summed struct {
	size     int64
	modified time.Time
	sha256   string
}

var _ backupstore.Store = (*Directories)(nil)

const maxSums = 256

// OpenDirectories returns a store over directories, by the first segment of names. They need not exist yet.
func OpenDirectories(paths map[string]string) *Directories {
	return &Directories{paths: paths, sums: map[string]summed{}}
}

func (d *Directories) find(ctx context.Context, c backupstore.Container, name string) (*os.File, backupstore.Object, error) {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return nil, backupstore.Object{}, err
	}
	segments := strings.Split(name, "/")
	path, ok := d.paths[segments[0]]
	if !ok || len(segments) < 2 {
		return nil, backupstore.Object{}, backupstore.NotFound(name)
	}
	f, err := openPlain(path, segments[1:])
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, backupstore.Object{}, backupstore.NotFound(name)
	}
	if err != nil {
		return nil, backupstore.Object{}, fmt.Errorf("open a file: %w", err)
	}
	o, err := d.describe(f, name)
	if err != nil {
		_ = f.Close()
		return nil, backupstore.Object{}, fmt.Errorf("read a file: %w", err)
	}
	return f, o, nil
}

func openPlain(path string, segments []string) (*os.File, error) {
	root, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	last := len(segments) - 1
	parent, err := root.walk(segments[:last], false)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return parent.open(segments[last], os.O_RDONLY)
}

func (d *Directories) describe(f *os.File, name string) (backupstore.Object, error) {
	info, err := f.Stat()
	if err != nil {
		return backupstore.Object{}, err
	}
	if !info.Mode().IsRegular() {
		return backupstore.Object{}, backupstore.NotFound(name)
	}
	now := summed{size: info.Size(), modified: info.ModTime()}
	d.mu.Lock()
	known := d.sums[name]
	d.mu.Unlock()
	if known.sha256 == "" || known.size != now.size || !known.modified.Equal(now.modified) {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(f, 0, info.Size())); err != nil {
			return backupstore.Object{}, err
		}
		now.sha256 = hex.EncodeToString(sum.Sum(nil))
		d.mu.Lock()
		if len(d.sums) >= maxSums {
			clear(d.sums)
		}
		d.sums[name] = now
		d.mu.Unlock()
		known = now
	}
	return backupstore.Object{Name: name, Size: known.size, SHA256: known.sha256, Modified: known.modified.UTC()}, nil
}

// Stat implements backupstore.Store.
func (d *Directories) Stat(ctx context.Context, c backupstore.Container, name string) (backupstore.Object, error) {
	f, o, err := d.find(ctx, c, name)
	if err != nil {
		return backupstore.Object{}, err
	}
	return o, f.Close()
}

// Get implements backupstore.Store.
func (d *Directories) Get(ctx context.Context, c backupstore.Container, name string, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	f, o, err := d.find(ctx, c, name)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	return part(f, o, r)
}

// List implements backupstore.Store.
func (*Directories) List(context.Context, backupstore.Container, backupstore.ListOptions) ([]backupstore.Object, error) {
	return nil, nil
}

func readOnly() error {
	return trove.Errorf(trove.KindForbidden, "These objects can only be read.")
}

// Put implements backupstore.Store.
func (*Directories) Put(context.Context, backupstore.Container, string, io.Reader, backupstore.PutOptions) (backupstore.Object, error) {
	return backupstore.Object{}, readOnly()
}

// Remove implements backupstore.Store.
func (*Directories) Remove(context.Context, backupstore.Container, string) error { return readOnly() }

// RemoveAll implements backupstore.Store.
func (*Directories) RemoveAll(context.Context, backupstore.Container, string) (int, error) {
	return 0, readOnly()
}
