// Package mem is the driver of package backupstore in memory, for tests: it passes the suite, and has knobs to fail.
package mem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Store is a store in memory.
type Store struct {
	clock clock.Clock

	mu      sync.Mutex
	room    int64 // bytes that may still be stored; -1: any number
	fail    map[string][]error
	objects map[backupstore.Container]map[string]stored
}

type stored struct {
	backupstore.Object
	data []byte
}

var _ backupstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{clock: clock.System{}, room: -1, fail: map[string][]error{}, objects: map[backupstore.Container]map[string]stored{}}
}

// FailNext lets the next call of an operation (put, get, stat, list, remove) fail. Called several times, so many calls fail.
func (s *Store) FailNext(operation string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[operation] = append(s.fail[operation], err)
}

// SetRoom says how many bytes may still be stored; -1: any number.
func (s *Store) SetRoom(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = bytes
}

// begin is at the head of each operation.
func (s *Store) begin(ctx context.Context, operation string, errs ...error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting := s.fail[operation]; len(waiting) > 0 {
		s.fail[operation] = waiting[1:]
		return waiting[0]
	}
	return nil
}

// Put implements backupstore.Store.
func (s *Store) Put(ctx context.Context, c backupstore.Container, name string, body io.Reader, o backupstore.PutOptions) (backupstore.Object, error) {
	if err := s.begin(ctx, "put", c.Check(), backupstore.CheckName(name), backupstore.CheckMeta(o.Meta)); err != nil {
		return backupstore.Object{}, err
	}
	if o.Size >= 0 {
		body = io.LimitReader(body, o.Size+1)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return backupstore.Object{}, err
	}
	sum := sha256.Sum256(data)
	object := backupstore.Object{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Modified: s.clock.Now(), Meta: maps.Clone(o.Meta)}
	if o.Size >= 0 && object.Size != o.Size || o.SHA256 != "" && o.SHA256 != object.SHA256 {
		return backupstore.Object{}, trove.Wrap(trove.KindBadRequest, backupstore.ErrMismatch, "The object is not the one that was announced.")
	}
	return s.keep(c, stored{object, data}, o.IfAbsent)
}

func (s *Store) keep(c backupstore.Container, o stored, ifAbsent bool) (backupstore.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.objects[c][o.Name]
	switch {
	case ok && ifAbsent && bytes.Equal(there.data, o.data):
		return there.Object, nil
	case ok && ifAbsent:
		return backupstore.Object{}, backupstore.Exists(o.Name)
	case s.room >= 0 && o.Size > s.room:
		return backupstore.Object{}, trove.Wrap(trove.KindUnavailable, backupstore.ErrFull, "The object store has no room.")
	case s.room >= 0:
		s.room -= o.Size
	}
	if s.objects[c] == nil {
		s.objects[c] = map[string]stored{}
	}
	s.objects[c][o.Name] = o
	return o.Object, nil
}

func (s *Store) find(ctx context.Context, operation string, c backupstore.Container, name string) (stored, error) {
	if err := s.begin(ctx, operation, c.Check(), backupstore.CheckName(name)); err != nil {
		return stored{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[c][name]
	if !ok {
		return stored{}, backupstore.NotFound(name)
	}
	o.Meta = maps.Clone(o.Meta)
	return o, nil
}

// Get implements backupstore.Store.
func (s *Store) Get(ctx context.Context, c backupstore.Container, name string, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	o, err := s.find(ctx, "get", c, name)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	if r.Offset < 0 || r.Length < 0 || r.Offset > o.Size {
		return nil, backupstore.Object{}, trove.Errorf(trove.KindBadRequest, "The object has %d bytes: there is no range at %d.", o.Size, r.Offset)
	}
	part := o.data[r.Offset:]
	if r.Length > 0 && r.Length < int64(len(part)) {
		part = part[:r.Length]
	}
	return io.NopCloser(bytes.NewReader(part)), o.Object, nil
}

// Stat implements backupstore.Store.
func (s *Store) Stat(ctx context.Context, c backupstore.Container, name string) (backupstore.Object, error) {
	o, err := s.find(ctx, "stat", c, name)
	return o.Object, err
}

// List implements backupstore.Store.
func (s *Store) List(ctx context.Context, c backupstore.Container, o backupstore.ListOptions) ([]backupstore.Object, error) {
	if err := s.begin(ctx, "list", c.Check()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []backupstore.Object
	for _, name := range slices.Sorted(maps.Keys(s.objects[c])) {
		if o.Limit > 0 && len(found) == o.Limit {
			break
		}
		if strings.HasPrefix(name, o.Prefix) && name > o.Marker {
			found = append(found, s.objects[c][name].Object)
		}
	}
	return found, nil
}

// Remove implements backupstore.Store.
func (s *Store) Remove(ctx context.Context, c backupstore.Container, name string) error {
	if err := s.begin(ctx, "remove", c.Check(), backupstore.CheckName(name)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects[c], name)
	return nil
}

// RemoveAll implements backupstore.Store.
func (s *Store) RemoveAll(ctx context.Context, c backupstore.Container, prefix string) (int, error) {
	if prefix == "" {
		return 0, trove.Errorf(trove.KindBadRequest, "A prefix is needed to remove objects.")
	}
	if err := s.begin(ctx, "remove", c.Check()); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.objects[c])
	maps.DeleteFunc(s.objects[c], func(name string, _ stored) bool { return strings.HasPrefix(name, prefix) })
	return n - len(s.objects[c]), nil
}
