package redis

import (
	"context"
	"errors"
	"io/fs"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// kept is what the driver remembers across boots. It is in the agent's own directory, which no account but root can read.
type kept struct {
	InstanceID string          `json:"instance_id"`
	Settings   engine.Settings `json:"settings"`
	Logs       []string        `json:"logs,omitempty"`       // those that were switched on
	Admin      string          `json:"admin"`                // the password of the agent's own account
	Version    string          `json:"version,omitempty"`    // of the programs that last had the data
	GivenCert  []byte          `json:"given_cert,omitempty"` // the last one of the service
	GivenKey   []byte          `json:"given_key,omitempty"`
	TLS        tlsKept         `json:"tls,omitzero"`
	TLSBefore  *tlsKept        `json:"tls_before,omitempty"` // what the last change of TLS replaced; nil: nothing to go back to
}

func (p place) readKept() (k kept, err error) {
	err = guestfiles.ReadKept(p.settingsFile(), &k)
	return k, err
}

func (p place) writeKept(k kept) error { return guestfiles.WriteKept(p.settingsFile(), k) }

// Configure keeps the settings; Command renders them at the next start. An override that cannot be used is BadRequest, and nothing changes.
func (e *Engine) Configure(_ context.Context, l engine.Layout, s engine.Settings) error {
	p := e.at(l)
	if _, err := p.options(s); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.ServerID == 0 {
		s.ServerID = k.Settings.ServerID
	}
	k.Settings = s
	return p.writeKept(k)
}

// Command returns how the server is started, and makes anew what it reads in the tmpfs. Should the agent's own account not be what it has to be, it is mended.
func (e *Engine) Command(l engine.Layout) (engine.Command, error) {
	p := e.at(l)
	k, err := p.readKept()
	if errors.Is(err, fs.ErrNotExist) || err == nil && k.Admin == "" {
		return engine.Command{}, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return engine.Command{}, err
	}
	if err := p.ensureDirs(); err != nil {
		return engine.Command{}, err
	}
	config, err := p.render(k)
	if err != nil {
		return engine.Command{}, err
	}
	if err := errors.Join(guestfiles.WriteStarted(p.started(), k.Settings.Overrides), p.given().Forget()); err != nil {
		return engine.Command{}, err
	}
	if err := guestfiles.Write(p.config(), config, 0o400, l.UID, l.GID); err != nil {
		return engine.Command{}, err
	}
	if err := e.ensureTLS(p, k); err != nil {
		return engine.Command{}, err
	}
	if err := p.mendUsers(k.Admin); err != nil {
		return engine.Command{}, err
	}
	return engine.Command{
		Path: p.program(), Args: []string{p.config()}, Env: environment, Dir: "/",
		UID: l.UID, GID: l.GID, Notify: true, LogFile: p.logFile(),
	}, nil
}

var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

func (p place) ensureDirs() error {
	if err := guestfiles.EnsureDir(p.logDir(), 0o700, p.UID, p.GID); err != nil {
		return err
	}
	if err := guestfiles.EnsureDir(p.runtime(), 0o711, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	return guestfiles.EnsureDir(p.runDir(), 0o700, p.UID, p.GID)
}

// Ready logs in and notes the version that has the data now, and how the server writes what it was given.
func (e *Engine) Ready(ctx context.Context, l engine.Layout) error {
	p := e.at(l)
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if errors.Is(err, fs.ErrNotExist) {
		return p.unavailable(err)
	}
	if err != nil {
		return err
	}
	var version string
	err = p.with(ctx, func(c conn) error {
		fields, err := c.info(ctx, "server")
		if err != nil {
			return err
		}
		version = fields[e.product.number]
		return p.noteStart(ctx, c, k.Settings)
	})
	if err != nil || k.Version == version {
		return err
	}
	k.Version = version
	return p.writeKept(k)
}

// Ping asks for an answer. PING itself would not do: the server answers it with an error while its volume is full, and still serves all that reads.
func (e *Engine) Ping(ctx context.Context, l engine.Layout) error {
	return e.at(l).with(ctx, func(c conn) error { return c.run(ctx, "ECHO", "1") })
}
