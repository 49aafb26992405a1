package keyfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Keeper keeps the keys of a deployment by name. All processes of the deployment see the same. Its methods may be called from several goroutines.
type Keeper interface {
	// LoadOrMake returns the content; where there is none yet it keeps what makeKey returns. If several processes ask at the same time one makes it,
	// all use it.
	LoadOrMake(ctx context.Context, name string, makeKey func() ([]byte, error)) ([]byte, error)
	// Load returns the content as it is now or was a moment ago, and the version that this is. What is not there is fs.ErrNotExist.
	Load(name string) (data []byte, version string, err error)
	// Version returns the version that Load would return. It costs next to nothing.
	Version(name string) (string, error)
	// Replace replaces the content by what change makes of it; after an error, and with the same content, nothing is changed. Of several processes one
	// follows the other. It may call change again.
	Replace(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error
}

// Dir is a Keeper of files in a directory, each as LoadOrMake makes it: for the processes of one machine.
type Dir string

var _ Keeper = Dir("")

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// LoadOrMake implements Keeper.
func (d Dir) LoadOrMake(_ context.Context, name string, makeKey func() ([]byte, error)) ([]byte, error) {
	return LoadOrMake(d.path(name), makeKey)
}

// Load implements Keeper.
func (d Dir) Load(name string) ([]byte, string, error) {
	version, err := d.Version(name) // before the content: at worst it is read once more
	if err != nil {
		return nil, "", err
	}
	data, err := Load(d.path(name))
	return data, version, err
}

// Version implements Keeper.
func (d Dir) Version(name string) (string, error) {
	info, err := os.Stat(d.path(name))
	if err != nil {
		return "", fmt.Errorf("open key: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the system does not tell which file this is")
	}
	return fmt.Sprint(s.Ino, info.ModTime().UnixNano(), info.Size()), nil
}

// Replace implements Keeper.
func (d Dir) Replace(_ context.Context, name string, change func(old []byte) ([]byte, error)) error {
	return Replace(d.path(name), change)
}
