package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// kept is what the driver remembers across boots.
type kept struct {
	InstanceID string          `json:"instance_id"`
	System     string          `json:"system,omitempty"` // the data directory's identifier, which was made for this instance
	Settings   engine.Settings `json:"settings"`
	Logs       []string        `json:"logs,omitempty"` // those that were switched on, in order
	TLS        tlsKept         `json:"tls,omitzero"`
	TLSBefore  *tlsKept        `json:"tls_before,omitempty"` // what the last change of TLS replaced; nil: nothing to go back to
	Programs   string          `json:"programs,omitempty"`   // the version that last served the data
	Analyse    bool            `json:"analyse,omitempty"`    // an upgrade left tables without statistics
}

func (p place) readKept() (k kept, err error) {
	err = guestfiles.ReadKept(p.settingsFile(), &k)
	return k, err
}

func (p place) writeKept(k kept) error { return guestfiles.WriteKept(p.settingsFile(), k) }

// Configure keeps the settings; Command renders them at the next start. An override that cannot be used is BadRequest, and nothing changes.
func (e *Engine) Configure(_ context.Context, l engine.Layout, s engine.Settings) error {
	p := place{l}
	if _, err := p.render(s); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.ServerID == 0 {
		s.ServerID = k.Settings.ServerID
	}
	k.Settings = s
	return p.writeKept(k)
}

// Command returns how the server is started, and makes anew what it reads in the tmpfs.
func (e *Engine) Command(l engine.Layout) (engine.Command, error) {
	p := place{l}
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return engine.Command{}, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return engine.Command{}, err
	}
	program, err := p.program("postgres")
	if err != nil {
		return engine.Command{}, err
	}
	if err := p.ensureDirs(); err != nil {
		return engine.Command{}, err
	}
	if err := p.writeConfig(k); err != nil {
		return engine.Command{}, err
	}
	if err := guestfiles.WriteStarted(p.started(), k.Settings.Overrides); err != nil {
		return engine.Command{}, err
	}
	first, err := guestfiles.Exists(p.expectFile())
	if err != nil {
		return engine.Command{}, err
	}
	if err := p.writeAccess(k.TLS, first); err != nil {
		return engine.Command{}, err
	}
	if err := e.ensureTLS(p, k); err != nil {
		return engine.Command{}, err
	}
	return engine.Command{
		Path: program, Args: []string{"-D", p.dataDir(), "-c", "config_file=" + p.config()}, Env: environment, Dir: "/",
		UID: l.UID, GID: l.GID, Notify: true, LogFile: p.logFile(),
	}, nil
}

// writeConfig writes the file that the server reads at its start and when it is told to.
func (p place) writeConfig(k kept) error {
	config, err := p.render(k.Settings, k.Logs...)
	if err != nil {
		return err
	}
	return guestfiles.Write(p.config(), append(config, text(k.TLS.options(p))...), 0o400, p.UID, p.GID)
}

func (p place) ensureDirs() error {
	if err := guestfiles.EnsureDir(p.logDir(), 0o700, p.UID, p.GID); err != nil {
		return err
	}
	if err := guestfiles.EnsureDir(p.runtime(), 0o711, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	return guestfiles.EnsureDir(p.runDir(), 0o700, p.UID, p.GID)
}

// agentAccount is the name of the operating system's account that this runs as.
func agentAccount() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find the agent's account: %w", err)
	}
	return u.Username, nil
}
