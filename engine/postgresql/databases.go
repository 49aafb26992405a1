package postgresql

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// icu ends the name of a collation that the library ICU has, as in pg_collation: "de-x-icu".
const icu = "-x-icu"

// Databases lists the users' databases.
func (e *Engine) Databases(ctx context.Context, l engine.Layout) ([]trove.Database, error) {
	var all []trove.Database
	p := place{l}
	err := p.with(ctx, adminDB, func(c conn) error {
		// Where a provider of its own sorts, the name of what it sorts by has stood in three columns.
		locale, err := p.localeColumn()
		if err != nil {
			return err
		}
		rows, err := c.rows(ctx, `SELECT datname, pg_encoding_to_char(encoding), datlocprovider, datcollate, COALESCE(`+locale+`, '') FROM pg_database`)
		if err != nil {
			return fmt.Errorf("list databases: %w", err)
		}
		all = []trove.Database{}
		for _, r := range rows {
			if slices.Contains(reservedDatabases, r[0]) {
				continue
			}
			d := trove.Database{Name: r[0], CharacterSet: r[1], Collate: r[3]}
			switch r[2] {
			case "i":
				d.Collate = r[4] + icu
			case "b":
				d.Collate = r[4]
			}
			all = append(all, d)
		}
		slices.SortFunc(all, func(a, b trove.Database) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	})
	return all, err
}

func (p place) localeColumn() (string, error) {
	major, err := p.major()
	if major >= firstBuiltin {
		return "datlocale", err
	}
	return "daticulocale", err
}

// CreateDatabase makes a database and the role that owns it. An encoding or collation that the server does not know, or that do not belong together, is
// BadRequest.
func (e *Engine) CreateDatabase(ctx context.Context, l engine.Layout, d trove.Database) error {
	if err := checkNewDatabase(d); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	return p.with(ctx, adminDB, func(c conn) error { return p.createDatabase(ctx, c, d) })
}

func (p place) createDatabase(ctx context.Context, c conn, d trove.Database) error {
	major, err := p.major()
	if err != nil {
		return err
	}
	if _, there, err := c.one(ctx, "SELECT 1 FROM pg_database WHERE datname = $1", d.Name); err != nil || there {
		if there {
			return databaseExists(d.Name)
		}
		return fmt.Errorf("find database %s: %w", d.Name, err)
	}
	owner := ownerOf(d.Name)
	if err := ensureOwner(ctx, c, owner); err != nil {
		return err
	}
	err = c.exec(ctx, "CREATE DATABASE "+quote(d.Name)+" OWNER "+quote(owner)+" TEMPLATE template0"+locale(d, major))
	switch {
	case isServer(err, errDatabaseExists, errUniqueViolation):
		return databaseExists(d.Name)
	case isServer(err, errNoObject, errInvalidName, errInvalidValue, errInvalidObject, errWrongObject, errNotSupported):
		return trove.Wrap(trove.KindBadRequest, err, "The character set %q or the collation %q cannot be used.", d.CharacterSet, d.Collate)
	case err != nil:
		return fmt.Errorf("create database %s: %w", d.Name, err)
	}
	if err := c.exec(ctx, "REVOKE ALL ON DATABASE "+quote(d.Name)+" FROM PUBLIC"); err != nil {
		return fmt.Errorf("close database %s to others: %w", d.Name, err)
	}
	return nil
}

func databaseExists(name string) error {
	return trove.Errorf(trove.KindConflict, "The database %q exists already.", name)
}

func noDatabase(name string) error {
	return trove.Errorf(trove.KindNotFound, "The database %q cannot be found.", name)
}

// locale is the part of CREATE DATABASE that says how texts are kept and compared.
func locale(d trove.Database, major int) string {
	encoding, collate := cmp.Or(d.CharacterSet, "UTF8"), d.Collate
	utf8 := slices.Contains([]string{"utf8", "utf-8", "unicode"}, strings.ToLower(encoding))
	if collate == "" {
		collate = "C"
		if utf8 {
			collate = "C.UTF-8"
		}
	}
	text := " ENCODING " + literal(encoding)
	name, isICU := strings.CutSuffix(collate, icu)
	switch {
	case isICU && utf8:
		return text + " LOCALE_PROVIDER icu ICU_LOCALE " + literal(name) + " LOCALE 'C.UTF-8'"
	case isICU:
		return text + " LOCALE_PROVIDER icu ICU_LOCALE " + literal(name) + " LOCALE 'C'"
	case major >= firstBuiltin && utf8 && collate == "C.UTF-8":
		return text + " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8'"
	}
	return text + " LOCALE_PROVIDER libc LOCALE " + literal(collate)
}

// ensureOwner makes the role that owns a database. One that logs in, or owns a database already, is the tenant's doing by SQL and would share rights.
func ensureOwner(ctx context.Context, c conn, owner string) error {
	taken, there, err := c.one(ctx, "SELECT (rolcanlogin OR EXISTS (SELECT FROM pg_database WHERE datdba = r.oid))::text FROM pg_roles r WHERE rolname = $1", owner)
	if err != nil {
		return fmt.Errorf("find role %s: %w", owner, err)
	}
	if taken == "true" {
		return trove.Errorf(trove.KindConflict, "The role %q, which shall own the database, is in use for something else: rename it first.", owner)
	}
	if !there {
		if err := c.exec(ctx, "CREATE ROLE "+quote(owner)+" NOLOGIN"); err != nil {
			return fmt.Errorf("create role %s: %w", owner, err)
		}
	}
	return adopt(ctx, c, owner)
}

// DropDatabase removes a database with all that is in it, sends away who is connected to it, and removes the role that owned it.
func (e *Engine) DropDatabase(ctx context.Context, l engine.Layout, name string) error {
	if err := checkDatabase(name); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return place{l}.with(ctx, adminDB, func(c conn) error {
		owner, there, err := c.one(ctx, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", name)
		if err != nil {
			return fmt.Errorf("find database %s: %w", name, err)
		}
		if !there {
			return noDatabase(name)
		}
		err = c.exec(ctx, "DROP DATABASE "+quote(name)+" WITH (FORCE)")
		switch {
		case isServer(err, errNoDatabase):
			return noDatabase(name)
		case isServer(err, errObjectInUse):
			return trove.Wrap(trove.KindConflict, err, "The database %q is in use: %s.", name, reason(err))
		case err != nil:
			return fmt.Errorf("drop database %s: %w", name, err)
		}
		if !strings.HasPrefix(owner, ownerStart) {
			return nil
		}
		return dropOwner(ctx, c, owner)
	})
}

// dropOwner removes a role that has nothing any more. One that the tenant gave something else, in another database, stays for it.
func dropOwner(ctx context.Context, c conn, owner string) error {
	err := c.exec(ctx, "DROP ROLE IF EXISTS "+quote(owner))
	if err != nil && !isServer(err, errDependent) {
		return fmt.Errorf("drop role %s: %w", owner, err)
	}
	return nil
}

func checkNewDatabase(d trove.Database) error {
	if err := checkDatabase(d.Name); err != nil {
		return err
	}
	if err := checkLocale("character set", d.CharacterSet); err != nil {
		return err
	}
	return checkLocale("collation", d.Collate)
}
