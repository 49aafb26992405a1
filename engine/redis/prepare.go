package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// Initialised reports whether the data directory is there; it appears under its name only when it is whole.
func (e *Engine) Initialised(l engine.Layout) (bool, error) {
	return guestfiles.Exists(e.at(l).dataDir())
}

// Initialise makes an empty directory, which is all that the server wants. What identifies a server it makes at its start, in memory.
func (e *Engine) Initialise(_ context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if done, err := e.Initialised(l); err != nil || done {
		return err
	}
	p := e.at(l)
	fresh := p.dataDir() + ".new"
	if err := guestfiles.EnsureDir(fresh, 0o700, l.UID, l.GID); err != nil {
		return err
	}
	if err := os.Rename(fresh, p.dataDir()); err != nil {
		return fmt.Errorf("name the data directory: %w", err)
	}
	return nil
}

// Prepare keeps the settings and writes the users, root among them, as hashes into the file that the server reads before it serves the first connection:
// it does not start with a file that it cannot read whole. What a user gave wrongly is BadRequest and nothing is written.
func (e *Engine) Prepare(ctx context.Context, l engine.Layout, prep engine.Preparation) error {
	p := e.at(l)
	users, err := e.firstUsers(prep)
	if err != nil {
		return err
	}
	k := kept{InstanceID: prep.InstanceID, Settings: prep.Settings, Admin: prep.AdminPassword.Reveal()}
	if prep.ServerID != 0 {
		k.Settings.ServerID = prep.ServerID
	}
	if k.Admin == "" {
		k.Admin = rand.Text()
	}
	if _, err := p.options(k.Settings); err != nil {
		return err
	}
	if len(prep.TLSCert)+len(prep.TLSKey) > 0 {
		if err := checkPair(prep.TLSCert, prep.TLSKey); err != nil {
			return err
		}
		k.GivenCert, k.GivenKey = prep.TLSCert, prep.TLSKey
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := p.ensureDirs(); err != nil {
		return err
	}
	if len(k.Settings.Overrides) > 0 { // it starts with all that is not a user's
		if err := p.try(ctx, k.Settings, nil); err != nil {
			return err
		}
	}
	if err := p.writeKept(k); err != nil {
		return err
	}
	if err := os.Remove(p.tls().Cert()); err != nil && !errors.Is(err, os.ErrNotExist) { // of an earlier Prepare
		return fmt.Errorf("forget the certificate: %w", err)
	}
	return p.writeUsers(k.Admin, users)
}

// firstUsers returns the lines of the file of users.
func (e *Engine) firstUsers(prep engine.Preparation) ([]string, error) {
	if len(prep.Databases) > 0 {
		return nil, e.noDatabases()
	}
	root := nobody
	if prep.RootPassword != "" {
		root = withPassword(passwordHash(prep.RootPassword), e.product.rootRules())
	}
	lines := []string{userLine(rootName, root)}
	var names []string
	for _, u := range prep.Users {
		if err := e.checkNewUser(u); err != nil {
			return nil, err
		}
		if slices.Contains(names, u.Name) {
			return nil, trove.Errorf(trove.KindBadRequest, "The user %s is listed twice.", u.Name)
		}
		names = append(names, u.Name)
		lines = append(lines, userLine(u.Name, withPassword(passwordHash(u.Password), e.product.userRules())))
	}
	return lines, nil
}
