package mysqlfamily

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Databases lists the users' databases.
func (e *Engine) Databases(ctx context.Context, l engine.Layout) ([]trove.Database, error) {
	var all []trove.Database
	err := e.Place(l).With(ctx, func(db *sql.Conn) (err error) {
		all, err = listDatabases(ctx, db)
		return err
	})
	return all, err
}

func listDatabases(ctx context.Context, db *sql.Conn) ([]trove.Database, error) {
	all := []trove.Database{}
	err := Texts(ctx, db, 3, func(v []string) {
		if !slices.ContainsFunc(reservedDatabases, func(r string) bool { return strings.EqualFold(r, v[0]) }) {
			all = append(all, trove.Database{Name: v[0], CharacterSet: v[1], Collate: v[2]})
		}
	}, "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA")
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	slices.SortFunc(all, func(a, b trove.Database) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// CreateDatabase makes a database. A character set or collation that the server does not know, or that do not belong together, is BadRequest.
func (e *Engine) CreateDatabase(ctx context.Context, l engine.Layout, d trove.Database) error {
	if err := checkNewDatabase(d); err != nil {
		return err
	}
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		err := Exec(ctx, db, createDatabase(d, ""))
		switch {
		case isServer(err, errDatabaseExists):
			return trove.Wrap(trove.KindConflict, err, "The database %q exists already.", d.Name)
		case isServer(err, errCharsetUnknown, errCollationUnknown, errCollationMismatch):
			return trove.Wrap(trove.KindBadRequest, err, "The character set %q or the collation %q cannot be used.", d.CharacterSet, d.Collate)
		case isServer(err, errWrongName):
			return trove.Wrap(trove.KindBadRequest, err, "The database name %q is not allowed.", d.Name)
		case err != nil:
			return fmt.Errorf("create database %s: %w", d.Name, err)
		}
		return nil
	})
}

// DropDatabase removes a database with all that is in it.
func (e *Engine) DropDatabase(ctx context.Context, l engine.Layout, name string) error {
	if err := checkDatabase(name); err != nil {
		return err
	}
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		err := Exec(ctx, db, "DROP DATABASE "+quote(name))
		switch {
		case isServer(err, errDatabaseUnknown):
			return trove.Wrap(trove.KindNotFound, err, "The database %q cannot be found.", name)
		case err != nil:
			return fmt.Errorf("drop database %s: %w", name, err)
		}
		return nil
	})
}

func checkNewDatabase(d trove.Database) error {
	if err := checkDatabase(d.Name); err != nil {
		return err
	}
	if err := checkCharset("character set", d.CharacterSet); err != nil {
		return err
	}
	return checkCharset("collation", d.Collate)
}

func createDatabase(d trove.Database, clause string) string {
	s := "CREATE DATABASE " + clause + quote(d.Name)
	if d.CharacterSet != "" {
		s += " CHARACTER SET " + d.CharacterSet
	}
	if d.Collate != "" {
		s += " COLLATE " + d.Collate
	}
	return s
}
