// Package file encrypts secrets under a master key that lies in a file of the controller.
//
// Package keyring does the sealing. The master key never leaves the process. Whoever has the file and the database has the secrets. A Sealer may be used from several goroutines, and the file may be replaced while it is used.
package file

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/secrets/keyring"
)

// Sealer is a secrets.Sealer.
type Sealer struct {
	path string

	mu   sync.Mutex
	seen fs.FileInfo
	ring *keyring.Ring
}

var _ keyring.Master = (*Sealer)(nil)

// Open reads the key file, and makes it with a new key if there is none. It is an error if others than the owner of the file may use it. The file is read
// again when it was replaced.
func Open(path string) (*Sealer, error) {
	if _, err := keyfile.LoadOrMake(path, makeFile); err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	s := &Sealer{path: path}
	return s, s.load()
}

// load needs s.mu, or that nobody else has the Sealer.
func (s *Sealer) load() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("master key: %w", err)
	}
	r, err := readRing(s.path)
	if err != nil {
		return err
	}
	s.seen, s.ring = info, r
	return nil
}

// keys returns the keys that the file holds now. A file that cannot be read leaves those that were read before.
func (s *Sealer) keys() *keyring.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	if err == nil && (!os.SameFile(info, s.seen) || !info.ModTime().Equal(s.seen.ModTime()) || info.Size() != s.seen.Size()) {
		_ = s.load()
	}
	return s.ring
}

// Seal implements secrets.Sealer.
func (s *Sealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	return s.keys().Seal(purpose, plain)
}

// Open implements secrets.Sealer.
func (s *Sealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	return s.keys().Open(purpose, sealed)
}

// Rewrap implements keyring.Master.
func (s *Sealer) Rewrap(text string, purposes ...string) (string, bool) {
	return s.keys().Rewrap(text, purposes...)
}

// Where implements keyring.Master.
func (s *Sealer) Where() string { return s.path }

// Keys implements keyring.Master.
func (s *Sealer) Keys(context.Context) ([]keyring.Key, error) { return Keys(s.path) }

// Prepare implements keyring.Master.
func (s *Sealer) Prepare(_ context.Context, now time.Time) (keyring.Key, error) {
	return Prepare(s.path, now)
}

// Rotate implements keyring.Master.
func (s *Sealer) Rotate(_ context.Context, now time.Time) (keyring.Key, error) {
	return Rotate(s.path, now)
}

// Drop implements keyring.Master.
func (s *Sealer) Drop(_ context.Context, ids ...string) error { return Drop(s.path, ids...) }

// Lines implements keyring.Master.
func (s *Sealer) Lines(context.Context) ([]byte, error) {
	r, err := readRing(s.path)
	if err != nil {
		return nil, err
	}
	return []byte(strings.Join(r.Lines(), "\n") + "\n"), nil
}
