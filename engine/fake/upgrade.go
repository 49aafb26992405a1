package fake

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// FirstVersion is the version of a new Engine's programs.
const FirstVersion = "1.0"

var _ engine.Upgrader = (*Engine)(nil)

// SetVersion makes the programs those of another version. Data of another major version starts only after Upgrade.
func (e *Engine) SetVersion(v string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version = v
}

// SetFindings is what CheckUpgrade finds from now on.
func (e *Engine) SetFindings(f ...engine.Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.findings = f
}

// Versions returns the programs' version and that of the last start.
func (e *Engine) Versions(_ context.Context, l engine.Layout) (programs, data string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpVersions); err != nil {
		return "", "", err
	}
	if done, err := e.Initialised(l); err != nil || !done {
		return e.version, "", err
	}
	s, err := read(l)
	return e.version, s.Version, err
}

// CheckUpgrade returns what SetFindings said.
func (e *Engine) CheckUpgrade(_ context.Context, l engine.Layout, _ string) ([]engine.Finding, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.look(OpCheckUpgrade, l); err != nil {
		return nil, err
	}
	return append([]engine.Finding(nil), e.findings...), nil
}

// Upgrade marks the data as the programs' own.
func (e *Engine) Upgrade(ctx context.Context, l engine.Layout, _ string, progress engine.Progress) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.begin(OpUpgrade); err != nil {
		return err
	}
	s, err := read(l)
	if err != nil {
		return err
	}
	if trove.CompareVersions(e.version, s.Version) < 0 {
		return trove.Errorf(trove.KindBadRequest, "The data is of version %s, and version %s is older.", s.Version, e.version)
	}
	if trove.CompareVersions(e.version, s.Version) == 0 {
		return nil
	}
	if progress != nil {
		progress("rewriting the file", 50)
	}
	s.Version = e.version
	return write(l, s)
}

// FinishUpgrade notes the version, and says so once.
func (e *Engine) FinishUpgrade(_ context.Context, l engine.Layout, _ engine.Progress) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, err := e.look(OpFinishUpgrade, l)
	if err != nil || s.Finished == e.version {
		return nil, err
	}
	s.Finished = e.version
	return []string{"The file is of version " + e.version + "."}, write(l, s)
}
