package mysqlfamily

import (
	"context"
	"errors"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// kept is what the driver remembers across boots.
type kept struct {
	InstanceID string          `json:"instance_id"`
	Settings   engine.Settings `json:"settings"`
	Logs       []string        `json:"logs,omitempty"` // those that were switched on, in order
	TLS        tlsKept         `json:"tls,omitzero"`
	TLSBefore  *tlsKept        `json:"tls_before,omitempty"` // what the last change of TLS replaced; nil: nothing to go back to
	Mutual     bool            `json:"mutual,omitempty"`     // accounts were made to show certificates, and not freed of it since
}

func (p Place) readKept() (k kept, err error) {
	err = guestfiles.ReadKept(p.settingsFile(), &k)
	return k, err
}

func (p Place) writeKept(k kept) error { return guestfiles.WriteKept(p.settingsFile(), k) }

// Configure keeps the settings; Command renders them at the next start. An override that cannot be used is BadRequest, and nothing changes.
func (e *Engine) Configure(_ context.Context, l engine.Layout, s engine.Settings) error {
	p := e.Place(l)
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
	p := e.Place(l)
	k, err := p.readKept()
	if errors.Is(err, os.ErrNotExist) {
		return engine.Command{}, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return engine.Command{}, err
	}
	if err := p.ensureDirs(); err != nil {
		return engine.Command{}, err
	}
	config, err := p.render(k.Settings, k.Logs...)
	if err != nil {
		return engine.Command{}, err
	}
	if err := errors.Join(guestfiles.WriteStarted(p.started(), k.Settings.Overrides), p.given().Forget()); err != nil {
		return engine.Command{}, err
	}
	if err := guestfiles.Write(p.config(), append(config, k.TLS.lines(p)...), 0o400, l.UID, l.GID); err != nil {
		return engine.Command{}, err
	}
	if err := e.ensureTLS(p, k); err != nil {
		return engine.Command{}, err
	}
	if e.product.BeforeStart != nil {
		if err := e.product.BeforeStart(p); err != nil {
			return engine.Command{}, err
		}
	}
	if there, err := guestfiles.Exists(p.initFile()); err != nil {
		return engine.Command{}, err
	} else if !there {
		if err := p.writeInit(k.Settings, nil); err != nil {
			return engine.Command{}, err
		}
	}
	return engine.Command{
		Path: p.Program(p.product.Server), Args: append([]string{"--defaults-file=" + p.config()}, p.product.Args...),
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, Dir: "/",
		UID: l.UID, GID: l.GID, Notify: true, LogFile: p.errorLog(),
	}, nil
}

func (p Place) ensureDirs() error {
	for _, d := range []string{p.logDir(), p.TmpDir(), p.filesDir()} {
		if err := guestfiles.EnsureDir(d, 0o700, p.UID, p.GID); err != nil {
			return err
		}
	}
	if err := guestfiles.EnsureDir(p.RuntimeDir(), 0o711, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	return guestfiles.EnsureDir(p.runDir(), 0o700, p.UID, p.GID)
}
