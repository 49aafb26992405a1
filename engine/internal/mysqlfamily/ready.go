package mysqlfamily

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Ready logs in and, after the first start, checks that everything that Prepare asked for is there: a statement of the init file that fails does not
// stop the server. Then it replaces the init file with one that holds nothing of this instance. It may be repeated.
func (e *Engine) Ready(ctx context.Context, l engine.Layout) error {
	p := e.Place(l)
	err := p.With(ctx, func(db *sql.Conn) error {
		if err := p.noteVersion(ctx, db); err != nil {
			return err
		}
		data, err := os.ReadFile(p.expectFile())
		if errors.Is(err, os.ErrNotExist) {
			return e.settleCertificates(ctx, p, db)
		}
		var want expectation
		if err == nil {
			err = json.Unmarshal(data, &want)
		}
		if err != nil {
			return fmt.Errorf("read what the first start shall have made: %w", err)
		}
		return e.product.verify(ctx, db, want)
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return err
	}
	if err := p.writeInit(k.Settings, nil); err != nil {
		return err
	}
	if err := os.Remove(p.expectFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("end the first start: %w", err)
	}
	return nil
}

// Ping asks a query.
func (e *Engine) Ping(ctx context.Context, l engine.Layout) error {
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		var one int
		return db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
	})
}

func (p *Product) verify(ctx context.Context, db *sql.Conn, want expectation) error {
	databases, err := listDatabases(ctx, db)
	if err != nil {
		return err
	}
	for _, name := range want.Databases {
		if !slices.ContainsFunc(databases, func(d trove.Database) bool { return d.Name == name }) {
			return trove.Errorf(trove.KindBadRequest, "The server did not make the database %q; a character set or collation that it does not know "+
				"is the usual reason.", name)
		}
	}
	grants, err := listGrants(ctx, db)
	if err != nil {
		return err
	}
	for _, u := range want.Users {
		if err := p.verifyHash(ctx, db, u.Name, u.Host, u.Hash); err != nil {
			return err
		}
		for _, d := range u.Databases {
			if !slices.Contains(grants[accountKey{u.Name, u.Host}], d) {
				return fmt.Errorf("check the first start: user %s@%s has no rights on database %s", u.Name, u.Host, d)
			}
		}
	}
	if want.Root != "" {
		return p.verifyHash(ctx, db, rootName, anyHost, want.Root)
	}
	return nil
}

func (p *Product) verifyHash(ctx context.Context, db *sql.Conn, name, host, want string) error {
	_, got, err := p.readAuth(ctx, db, name, host)
	if err != nil {
		return fmt.Errorf("check the first start: %w", err)
	}
	if got != want {
		return fmt.Errorf("check the first start: user %s@%s has another password", name, host)
	}
	return nil
}
