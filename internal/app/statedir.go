package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// StateDir is a deployment's directory.
type StateDir string

// Path returns a path below the directory.
func (s StateDir) Path(elem ...string) string {
	return filepath.Join(append([]string{string(s)}, elem...)...)
}

// Images returns where datastore images lie.
func (s StateDir) Images() string { return s.Path("images") }

// Keys returns where keys lie.
func (s StateDir) Keys() string { return s.Path("keys") }

// ConfigFile returns the path of the optional configuration file.
func (s StateDir) ConfigFile() string { return s.Path("trove.yaml") }

// LogFile returns where a control plane in the background writes its log.
func (s StateDir) LogFile() string { return s.Path("log", "trove.log") }

// Make makes the directory. It is not for others: keys and databases lie in it. The sandboxes reach what is theirs through mounts.
func (s StateDir) Make() error {
	for _, dir := range []string{"", "log", "keys"} {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return trove.Wrap(trove.KindUnavailable, err, "The state directory %s cannot be made: %v.", s, errors.Unwrap(err))
		}
	}
	return nil
}

// secretFile returns the first line of a file of mode 0600 below the directory, made with a new random text if it is not there.
func (s StateDir) secretFile(name string, fresh func() trove.Secret) (trove.Secret, error) {
	path := s.Path(name)
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		secret := fresh()
		return secret, atomicfile.Write(path, []byte(secret.Reveal()+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return trove.Secret(strings.TrimSpace(string(data))), nil
}
