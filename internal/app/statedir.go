package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/systemd"
)

// StateDir is a deployment's directory.
type StateDir string

// Path returns a path below the directory.
func (s StateDir) Path(elem ...string) string {
	return filepath.Join(append([]string{string(s)}, elem...)...)
}

// ImagesDir returns where datastore images lie.
func ImagesDir(cfg config.Config) string { return filepath.Join(cfg.CloudDir(), "images") }

// Keys returns where keys lie.
func (s StateDir) Keys() string { return s.Path("keys") }

// MasterKey returns the file of the master key: the one that systemd hands over (LoadCredential=) where it does, else the one in the state directory.
func (s StateDir) MasterKey() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if file := filepath.Join(dir, systemd.Credential); exists(file) {
			return file
		}
	}
	return filepath.Join(s.Keys(), "master.key")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// AgentKeys returns the file with the public keys of those who sign releases of the guest agent.
func (s StateDir) AgentKeys() string { return filepath.Join(s.Keys(), "agent-release.pub") }

// Agents returns where releases of the guest agent lie.
func (s StateDir) Agents() string { return s.Path("agents") }

// Interface returns the file with the interface of the management network that trove openstack bootstrap made on this host.
func (s StateDir) Interface() string { return s.Path("openstack-interface.json") }

// ConfigFile returns the path of the optional configuration file.
func (s StateDir) ConfigFile() string { return s.Path("trove.yaml") }

// LogFile returns where a control plane in the background writes its log.
func (s StateDir) LogFile() string { return s.Path("log", "trove.log") }

// Directories returns the other directories that a deployment keeps things in: what must be mounted before it can start.
func Directories(cfg config.Config) []string {
	if cfg.Local.Dir == "" {
		return nil
	}
	return []string{cfg.Local.Dir}
}

// Make makes the directory. It is not for others: keys and databases lie in it. The sandboxes reach what is theirs through mounts.
func (s StateDir) Make() error {
	for _, dir := range []string{"", "log", "keys"} {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return trove.Wrap(trove.KindUnavailable, err, "The state directory %s cannot be made: %v.", s, errors.Unwrap(err))
		}
	}
	return nil
}

// firstLine returns the first line of a text.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return strings.TrimSpace(line)
}
