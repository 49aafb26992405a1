package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

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

// lockFile holds the process id of the control plane that runs from the directory; the lock on it is what counts.
func (s StateDir) lockFile() string { return s.Path("trove.pid") }

// Lock makes this process the one control plane of the directory until it ends or closes the file. A second one is a Conflict that names the first.
func (s StateDir) Lock() (*os.File, error) {
	f, err := os.OpenFile(s.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, trove.Errorf(trove.KindConflict, "A control plane already runs from %s (process %d); `trove dev stop --state %s` stops it.", s, s.holder(), s)
		}
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("write the lock of the state directory: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, fmt.Errorf("write the lock of the state directory: %w", err)
	}
	return f, nil
}

func (s StateDir) holder() int {
	data, err := os.ReadFile(s.lockFile())
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// Holder returns the process id of the control plane that runs from the directory, 0 if none does.
func (s StateDir) Holder() (int, error) {
	f, err := os.OpenFile(s.lockFile(), os.O_RDWR, 0o600)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return s.holder(), nil
	}
	return 0, err //nolint:wrapcheck // flock fails for no reason that a user could mend
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
