package postgresql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// expectation is what the first start makes before a client is let in. It lies in the tmpfs, for root alone, and ends with Ready.
type expectation struct {
	Databases []trove.Database `json:"databases,omitempty"`
	Users     []expectedUser   `json:"users,omitempty"`
	Root      string           `json:"root,omitempty"` // the verifier, "" when root is not enabled
}

type expectedUser struct {
	Name      string   `json:"name"`
	Verifier  string   `json:"verifier"`
	Databases []string `json:"databases,omitempty"`
}

// Prepare keeps the settings, gives the data directory its identity, and writes what the first start shall make: databases, users and root with SCRAM
// verifiers. Until Ready has made them the server lets no client in. What a user gave wrongly is BadRequest and nothing is written. AdminPassword is not used:
// see the package comment.
func (e *Engine) Prepare(ctx context.Context, l engine.Layout, prep engine.Preparation) error {
	p := place{l}
	want, err := expect(prep)
	if err != nil {
		return err
	}
	settings := prep.Settings
	if prep.ServerID != 0 {
		settings.ServerID = prep.ServerID
	}
	if _, err := p.render(settings); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	next := kept{InstanceID: prep.InstanceID, Settings: settings}
	if before.InstanceID == prep.InstanceID {
		next.System = before.System
	}
	if err := p.ensureDirs(); err != nil {
		return err
	}
	if err := p.try(ctx, settings); err != nil {
		return err
	}
	if next.System, err = p.identify(ctx, next.System); err != nil {
		return err
	}
	if err := p.writeKept(next); err != nil {
		return err
	}
	if err := p.tls().Keep(prep.TLSCert, prep.TLSKey); err != nil {
		return err
	}
	if err := os.Remove(p.tls().Cert()); err != nil && !os.IsNotExist(err) { // of an earlier Prepare
		return fmt.Errorf("forget the certificate: %w", err)
	}
	data, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("write what the first start shall make: %w", err)
	}
	return guestfiles.Write(p.expectFile(), data, 0o600, os.Geteuid(), os.Getegid())
}

func expect(prep engine.Preparation) (expectation, error) {
	var want expectation
	for _, d := range prep.Databases {
		if err := checkNewDatabase(d); err != nil {
			return want, err
		}
		if slices.ContainsFunc(want.Databases, func(o trove.Database) bool { return o.Name == d.Name }) {
			return want, trove.Errorf(trove.KindBadRequest, "The database %q is listed twice.", d.Name)
		}
		want.Databases = append(want.Databases, d)
	}
	for _, u := range prep.Users {
		if err := checkNewUser(u); err != nil {
			return want, err
		}
		if slices.ContainsFunc(want.Users, func(o expectedUser) bool { return o.Name == u.Name }) {
			return want, trove.Errorf(trove.KindBadRequest, "The user %s is listed twice.", u.Name)
		}
		for _, name := range u.Databases {
			if !slices.ContainsFunc(want.Databases, func(d trove.Database) bool { return d.Name == name }) {
				return want, noDatabase(name)
			}
		}
		v, err := verifier(u.Password)
		if err != nil {
			return want, err
		}
		want.Users = append(want.Users, expectedUser{Name: u.Name, Verifier: v, Databases: u.Databases})
	}
	if prep.RootPassword == "" {
		return want, nil
	}
	var err error
	want.Root, err = verifier(prep.RootPassword)
	return want, err
}
