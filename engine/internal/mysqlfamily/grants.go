package mysqlfamily

import (
	"context"
	"database/sql"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Grant gives rights on databases, which need not exist yet.
func (e *Engine) Grant(ctx context.Context, l engine.Layout, name, host string, databases []string) error {
	host = hostOrAny(host)
	if err := e.product.checkUser(name, host); err != nil {
		return err
	}
	for _, d := range databases {
		if err := checkDatabase(d); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		if _, _, err := e.product.readAuth(ctx, db, name, host); err != nil {
			return err
		}
		for _, d := range databases {
			err := Exec(ctx, db, grant(name, host, d))
			if isServer(err, errNoUser) {
				return noUser(name, host)
			}
			if err != nil {
				return fmt.Errorf("grant rights on %s to %s@%s: %w", d, name, host, err)
			}
		}
		return nil
	})
}

// Revoke takes every right on the database, whether it was written with escapes or, by somebody else, without.
func (e *Engine) Revoke(ctx context.Context, l engine.Layout, name, host, database string) error {
	host = hostOrAny(host)
	if err := e.product.checkUser(name, host); err != nil {
		return err
	}
	if err := checkDatabase(database); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		if _, _, err := e.product.readAuth(ctx, db, name, host); err != nil {
			return err
		}
		var patterns []string
		err := Texts(ctx, db, 1, func(v []string) {
			if grantedName(v[0]) == database {
				patterns = append(patterns, v[0])
			}
		}, "SELECT Db FROM mysql.db WHERE User = ? AND Host = ?", name, host)
		if err != nil {
			return fmt.Errorf("list the rights of %s@%s: %w", name, host, err)
		}
		for _, pattern := range patterns {
			on := " ON " + quote(pattern) + ".* FROM " + account(name, host)
			for _, right := range []string{"GRANT OPTION", "ALL PRIVILEGES"} { // the second does not include the first
				if err := Exec(ctx, db, "REVOKE "+right+on); err != nil && !isServer(err, errNoGrant) {
					return fmt.Errorf("revoke rights on %s from %s@%s: %w", database, name, host, err)
				}
			}
		}
		if len(patterns) == 0 {
			return trove.Errorf(trove.KindNotFound, "The user %s@%s has no rights on the database %q.", name, host, database)
		}
		return nil
	})
}

func (p *Product) enableRoot(hash string) []string {
	return append(p.replaceUser(account(rootName, anyHost), hash), "GRANT ALL PRIVILEGES ON *.* TO "+account(rootName, anyHost)+" WITH GRANT OPTION")
}

// replaceUser makes an account, or makes it anew without the rights that it had.
func (p *Product) replaceUser(account, hash string) []string {
	if p.CreateOrReplace {
		return []string{"CREATE OR REPLACE USER " + account + p.Identified(hash)}
	}
	return []string{"DROP USER IF EXISTS " + account, "CREATE USER " + account + p.Identified(hash)}
}

// EnableRoot makes root@'%' with all rights and the right to pass them on, or makes it anew with this password.
func (e *Engine) EnableRoot(ctx context.Context, l engine.Layout, password trove.Secret) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := e.product.Hash(password)
	if err != nil {
		return fmt.Errorf("hash a password: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		for _, s := range e.product.enableRoot(hash) {
			if err := Exec(ctx, db, s); err != nil {
				return fmt.Errorf("enable root: %w", err)
			}
		}
		return e.Place(l).newAccount(ctx, db)
	})
}

// DisableRoot drops root@'%'. Accounts that the tenant made with it stay.
func (e *Engine) DisableRoot(ctx context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		if err := Exec(ctx, db, "DROP USER IF EXISTS "+account(rootName, anyHost)); err != nil {
			return fmt.Errorf("disable root: %w", err)
		}
		return nil
	})
}

// RootEnabled reports whether root@'%' is there.
func (e *Engine) RootEnabled(ctx context.Context, l engine.Layout) (bool, error) {
	enabled := false
	err := e.Place(l).With(ctx, func(db *sql.Conn) error {
		_, _, err := e.product.readAuth(ctx, db, rootName, anyHost)
		enabled = err == nil
		if trove.IsNotFound(err) {
			return nil
		}
		return err
	})
	return enabled, err
}
