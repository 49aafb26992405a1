package mysqlfamily

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// expectation is what the first start must have made. It lies in the tmpfs beside the init file and ends with it.
type expectation struct {
	Databases []string       `json:"databases,omitempty"`
	Users     []expectedUser `json:"users,omitempty"`
	Root      string         `json:"root,omitempty"` // the hash, "" when root is not enabled
}

type expectedUser struct {
	Name      string   `json:"name"`
	Host      string   `json:"host"`
	Hash      string   `json:"hash"`
	Databases []string `json:"databases,omitempty"`
}

// Prepare keeps the settings and writes the init file: databases, users and root as statements with hashes, which the server runs before it
// serves the first connection. What a user gave wrongly is BadRequest and nothing is written. AdminPassword is not used: see the package
// comment.
func (e *Engine) Prepare(ctx context.Context, l engine.Layout, prep engine.Preparation) error {
	p := e.Place(l)
	want, err := p.product.expect(prep)
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
	statements, err := p.product.firstStatements(prep, want)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := p.writeKept(kept{InstanceID: prep.InstanceID, Settings: settings}); err != nil {
		return err
	}
	if err := p.tls().Keep(prep.TLSCert, prep.TLSKey); err != nil {
		return err
	}
	if err := p.ensureDirs(); err != nil {
		return err
	}
	if err := os.Remove(p.tls().Cert()); err != nil && !os.IsNotExist(err) { // of an earlier Prepare
		return fmt.Errorf("forget the certificate: %w", err)
	}
	data, err := json.Marshal(want)
	if err != nil {
		return fmt.Errorf("write what the first start shall make: %w", err)
	}
	if err := guestfiles.Write(p.expectFile(), data, 0o600, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	if err := p.writeInit(settings, statements); err != nil {
		return err
	}
	return p.try(ctx, settings)
}

func (p *Product) expect(prep engine.Preparation) (expectation, error) {
	var want expectation
	for _, d := range prep.Databases {
		if err := checkNewDatabase(d); err != nil {
			return want, err
		}
		if slices.Contains(want.Databases, d.Name) {
			return want, trove.Errorf(trove.KindBadRequest, "The database %q is listed twice.", d.Name)
		}
		want.Databases = append(want.Databases, d.Name)
	}
	for _, u := range prep.Users {
		u.Host = hostOrAny(u.Host)
		if err := p.checkNewUser(u); err != nil {
			return want, err
		}
		if slices.ContainsFunc(want.Users, func(o expectedUser) bool { return o.Name == u.Name && o.Host == u.Host }) {
			return want, trove.Errorf(trove.KindBadRequest, "The user %s@%s is listed twice.", u.Name, u.Host)
		}
		hash, err := p.Hash(u.Password)
		if err != nil {
			return want, fmt.Errorf("hash a password: %w", err)
		}
		want.Users = append(want.Users, expectedUser{Name: u.Name, Host: u.Host, Hash: hash, Databases: u.Databases})
	}
	if prep.RootPassword != "" {
		hash, err := p.Hash(prep.RootPassword)
		if err != nil {
			return want, fmt.Errorf("hash a password: %w", err)
		}
		want.Root = hash
	}
	return want, nil
}

// firstStatements returns what makes the expectation true. Each may run again: a prepare that died after the start is repeated.
func (p *Product) firstStatements(prep engine.Preparation, want expectation) ([]string, error) {
	var all []string
	if prep.Adopted {
		all = append(all, "DROP USER IF EXISTS "+account(troveAdmin, adminHost))
	}
	for _, d := range prep.Databases {
		all = append(all, createDatabase(d, "IF NOT EXISTS "))
	}
	for _, u := range want.Users {
		all = append(all, p.replaceUser(account(u.Name, u.Host), u.Hash)...)
		for _, d := range u.Databases {
			all = append(all, grant(u.Name, u.Host, d))
		}
	}
	if want.Root != "" {
		all = append(all, p.enableRoot(want.Root)...)
	}
	for _, s := range all { // the file is read line by line; the checks of names see to it already
		if strings.ContainsAny(s, "\r\n\x00") {
			return nil, fmt.Errorf("prepare the first start: a statement has more than one line")
		}
	}
	return all, nil
}

// mending restores the agent's account at every start, whatever a tenant with root rights did to it. sql_log_bin: these are not the instance's own
// transactions, or two replicas would each have some that the other has not.
func (p *Product) mending() []string {
	admin := account(rootName, adminHost)
	return []string{
		"SET sql_log_bin=0",
		"CREATE USER IF NOT EXISTS " + admin + p.BySocket,
		"ALTER USER " + admin + p.BySocket + " ACCOUNT UNLOCK",
		"GRANT ALL PRIVILEGES ON *.* TO " + admin + " WITH GRANT OPTION",
	}
}

// writeInit writes the init file: one statement per line, as the server wants it. It is always there, so that a start never fails for want of it.
func (p Place) writeInit(settings engine.Settings, statements []string) error {
	overrides, err := p.product.overridden(settings.Overrides)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range slices.Concat(p.product.mending(), p.product.setVariables(overrides), statements) {
		lines := []string{s}
		if p.product.InitLines != nil {
			lines = p.product.InitLines(s)
		}
		for _, line := range lines {
			b.WriteString(line)
			b.WriteString(";\n")
		}
	}
	return guestfiles.Write(p.initFile(), []byte(b.String()), 0o400, p.UID, p.GID)
}
