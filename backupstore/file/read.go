package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
)

func (s *Store) find(ctx context.Context, c backupstore.Container, name string) (*os.File, backupstore.Object, error) {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return nil, backupstore.Object{}, err
	}
	directories, file := split(name)
	parent, err := s.root.walk(append(path(c), directories...), false)
	if err == nil {
		defer parent.Close()
		var f *os.File
		var o backupstore.Object
		if f, o, err = openObject(parent, file, name); err == nil {
			return f, o, nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, backupstore.Object{}, backupstore.NotFound(name)
	}
	return nil, backupstore.Object{}, fmt.Errorf("open an object: %w", err)
}

// Stat implements backupstore.Store.
func (s *Store) Stat(ctx context.Context, c backupstore.Container, name string) (backupstore.Object, error) {
	f, o, err := s.find(ctx, c, name)
	if err != nil {
		return backupstore.Object{}, err
	}
	return o, f.Close()
}

// Get implements backupstore.Store.
func (s *Store) Get(ctx context.Context, c backupstore.Container, name string, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	f, o, err := s.find(ctx, c, name)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	return part(f, o, r)
}

func part(f *os.File, o backupstore.Object, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	if r.Offset < 0 || r.Length < 0 || r.Offset > o.Size {
		_ = f.Close()
		return nil, backupstore.Object{}, trove.Errorf(trove.KindBadRequest, "The object has %d bytes: there is no range at %d.", o.Size, r.Offset)
	}
	length := o.Size - r.Offset
	if r.Length > 0 {
		length = min(length, r.Length)
	}
	return content{io.NewSectionReader(f, r.Offset, length), f}, o, nil
}

// content is a part of a file.
type content struct {
	*io.SectionReader
	io.Closer
}

// List implements backupstore.Store.
func (s *Store) List(ctx context.Context, c backupstore.Container, o backupstore.ListOptions) ([]backupstore.Object, error) {
	return s.list(ctx, c, &lister{ListOptions: o})
}

func (s *Store) list(ctx context.Context, c backupstore.Container, l *lister) ([]backupstore.Object, error) {
	if err := errors.Join(ctx.Err(), c.Check()); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	container, err := s.root.walk(path(c), false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	defer container.Close()
	if err := l.read(ctx, container, ""); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return l.found, nil
}

type lister struct {
	backupstore.ListOptions
	damaged bool // list also what cannot be read, by its name alone
	found   []backupstore.Object
}

func (l *lister) full() bool { return l.Limit > 0 && len(l.found) >= l.Limit }

// entry is a file or directory; its key is the name, for a directory with a slash. Sorted by keys, what is in a directory comes where its names do.
type entry struct {
	key, file string
	directory bool
}

// read adds the objects of a directory whose names all begin with before.
func (l *lister) read(ctx context.Context, d directory, before string) error {
	entries, err := d.entries(before)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil || l.full() {
			return err
		}
		if !l.wants(e) {
			continue
		}
		if err := l.take(ctx, d, e); err != nil && !errors.Is(err, os.ErrNotExist) { // removed meanwhile
			return err
		}
	}
	return nil
}

func (l *lister) wants(e entry) bool {
	if e.directory {
		return (strings.HasPrefix(e.key, l.Prefix) || strings.HasPrefix(l.Prefix, e.key)) && (e.key > l.Marker || strings.HasPrefix(l.Marker, e.key))
	}
	return strings.HasPrefix(e.key, l.Prefix) && e.key > l.Marker
}

func (l *lister) take(ctx context.Context, d directory, e entry) error {
	if e.directory {
		inner, err := d.enter(e.file, false)
		if err != nil {
			return err
		}
		defer inner.Close()
		return l.read(ctx, inner, e.key)
	}
	f, o, err := openObject(d, e.file, e.key)
	if errors.Is(err, errDamaged) { // one bad file must not hide the others; who asks for it is told
		if l.damaged {
			l.found = append(l.found, backupstore.Object{Name: e.key})
		}
		return nil
	}
	if err != nil {
		return err
	}
	l.found = append(l.found, o)
	return f.Close()
}

// entries returns what of the store is in a directory, in the order of keys. Anything else, a planted link among it, is not seen.
func (d directory) entries(before string) ([]entry, error) {
	again, err := d.enter(".", false) // the position in a directory belongs to the open file
	if err != nil {
		return nil, err
	}
	defer again.Close()
	all, err := again.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, item := range all {
		e := entry{file: item.Name(), directory: item.IsDir()}
		end := objectEnd
		if e.directory {
			end = directoryEnd
		}
		encoded, found := strings.CutSuffix(e.file, end)
		segment, ok := decode(encoded)
		if !found || !ok || !e.directory && !item.Type().IsRegular() {
			continue
		}
		e.key = before + segment
		if e.directory {
			e.key += "/"
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return entries, nil
}

// Remove implements backupstore.Store.
func (s *Store) Remove(ctx context.Context, c backupstore.Container, name string) error {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return err
	}
	directories, file := split(name)
	directories = append(path(c), directories...)
	parent, err := s.root.walk(directories, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove an object: %w", err)
	}
	err = unix.Unlinkat(parent.fd(), file, 0)
	if err == nil {
		err = parent.Sync()
	}
	parent.Close()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an object: %w", err)
	}
	return s.root.prune(directories)
}

// RemoveAll implements backupstore.Store.
func (s *Store) RemoveAll(ctx context.Context, c backupstore.Container, prefix string) (int, error) {
	if prefix == "" {
		return 0, trove.Errorf(trove.KindBadRequest, "A prefix is needed to remove objects.")
	}
	all, err := s.list(ctx, c, &lister{ListOptions: backupstore.ListOptions{Prefix: prefix}, damaged: true})
	if err != nil {
		return 0, err
	}
	for i, o := range all {
		if err := s.Remove(ctx, c, o.Name); err != nil {
			return i, err
		}
	}
	return len(all), nil
}
