// Package sealedkeys keeps the keys of a deployment in its store, sealed under the master key, so that controllers on several hosts share them: a host needs
// the store and the master key, nothing else.
//
// What one process writes another sees within Look. While the store cannot be read, what was read before counts. Everything may be used from several
// goroutines.
package sealedkeys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/secrets"
)

// Repository is what the store keeps: sealed texts by name.
type Repository interface {
	// KeyMaterial returns all of them.
	KeyMaterial(ctx context.Context) (map[string]string, error)
	// SwapKeyMaterial writes the text of a name if it is old; "" is none. False: it is another one, and nothing was written.
	SwapKeyMaterial(ctx context.Context, name, old, text string) (bool, error)
}

// Look is how often the store is read for what other processes have written.
const Look = time.Second

// Keys is a keyfile.Keeper.
type Keys struct {
	repository Repository
	sealer     secrets.Sealer
	log        *slog.Logger

	mu   sync.Mutex
	kept map[string]kept
}

// kept is a content with the text in the store that it was read from; the text is its version.
type kept struct {
	text  string
	plain []byte
}

var _ keyfile.Keeper = (*Keys)(nil)

// Open reads all keys. One that the sealer does not open is an error: this process must not make others beside it.
func Open(ctx context.Context, r Repository, s secrets.Sealer, log *slog.Logger) (*Keys, error) {
	k := &Keys{repository: r, sealer: s, log: log, kept: map[string]kept{}}
	return k, k.Refresh(ctx)
}

// Refresh reads what has changed.
func (k *Keys) Refresh(ctx context.Context) error {
	texts, err := k.repository.KeyMaterial(ctx)
	if err != nil {
		return fmt.Errorf("read the keys of the deployment: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for name, text := range texts {
		if k.kept[name].text == text {
			continue
		}
		plain, err := k.sealer.Open(ctx, purpose(name), text)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %s of the deployment: %w", name, err))
			continue
		}
		k.kept[name] = kept{text, []byte(plain.Reveal())}
	}
	return errors.Join(errs...)
}

func purpose(name string) string { return "deployment key:" + name }

// Run reads what other processes have written, until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	failing := false
	for clock.Sleep(ctx, Look) == nil {
		err := k.Refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			k.log.WarnContext(ctx, "keys of the deployment could not be read again; those that are known count", "err", err)
		}
		failing = err != nil
	}
	return nil
}

func (k *Keys) get(name string) (kept, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.kept[name]
	return c, ok
}

// Load implements keyfile.Keeper.
func (k *Keys) Load(name string) ([]byte, string, error) {
	c, ok := k.get(name)
	if !ok {
		return nil, "", fmt.Errorf("key %s of the deployment: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(c.plain), c.text, nil
}

// Version implements keyfile.Keeper.
func (k *Keys) Version(name string) (string, error) {
	c, ok := k.get(name)
	if !ok {
		return "", fmt.Errorf("key %s of the deployment: %w", name, fs.ErrNotExist)
	}
	return c.text, nil
}

// LoadOrMake implements keyfile.Keeper.
func (k *Keys) LoadOrMake(ctx context.Context, name string, makeKey func() ([]byte, error)) ([]byte, error) {
	if c, ok := k.get(name); ok {
		return bytes.Clone(c.plain), nil
	}
	made, err := makeKey()
	if err != nil {
		return nil, fmt.Errorf("make the key %s of the deployment: %w", name, err)
	}
	if _, err := k.swap(ctx, name, kept{}, made); err != nil {
		return nil, err
	}
	if err := k.Refresh(ctx); err != nil { // another process may have been quicker: its key counts
		return nil, err
	}
	data, _, err := k.Load(name)
	return data, err
}

// swap writes what shall be instead of what was read.
func (k *Keys) swap(ctx context.Context, name string, old kept, data []byte) (bool, error) {
	text, err := k.sealer.Seal(ctx, purpose(name), trove.Secret(data))
	if err != nil {
		return false, fmt.Errorf("key %s of the deployment: %w", name, err)
	}
	done, err := k.repository.SwapKeyMaterial(ctx, name, old.text, text)
	if err != nil {
		return false, fmt.Errorf("keep the key %s of the deployment: %w", name, err)
	}
	if done {
		k.mu.Lock()
		k.kept[name] = kept{text, bytes.Clone(data)}
		k.mu.Unlock()
	}
	return done, nil
}

// tries bounds how often a replacement begins anew because another process was quicker.
const tries = 20

// Replace implements keyfile.Keeper.
func (k *Keys) Replace(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error {
	for range tries {
		if err := k.Refresh(ctx); err != nil {
			return err
		}
		old, ok := k.get(name)
		if !ok {
			return fmt.Errorf("key %s of the deployment: %w", name, fs.ErrNotExist)
		}
		data, err := change(bytes.Clone(old.plain))
		if err != nil {
			return fmt.Errorf("replace the key %s of the deployment: %w", name, err)
		}
		if bytes.Equal(data, old.plain) {
			return nil
		}
		if done, err := k.swap(ctx, name, old, data); err != nil || done {
			return err
		}
	}
	return trove.Errorf(trove.KindConflict, "Other processes change the key %s of the deployment all the time; try again.", name)
}

// movedSuffix is what the names of files get that were taken over.
const movedSuffix = ".moved"

// TakeOver moves a file of an earlier release from a directory into the store, where the store has nothing of this name, and puts the file aside; no file is
// fine. With wins the file replaces what the store has: the operator has put it there. It reports whether the store was changed.
func (k *Keys) TakeOver(ctx context.Context, dir, name string, wins bool) (bool, error) {
	path := filepath.Join(dir, name)
	data, err := keyfile.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	old, there := k.get(name)
	took := false
	if !there || wins && !bytes.Equal(old.plain, data) {
		if took, err = k.swap(ctx, name, old, data); err != nil {
			return false, err
		}
		if err := k.Refresh(ctx); err != nil {
			return false, err
		}
	}
	if now, _ := k.get(name); !bytes.Equal(now.plain, data) {
		k.log.WarnContext(ctx, "a key file is not that of the deployment, and was put aside", "file", path)
	}
	if err := os.Rename(path, path+movedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was quicker
		return took, fmt.Errorf("put the key file aside that is in the store now: %w", err)
	}
	return took, nil
}
