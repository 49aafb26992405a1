package mysqlfamily

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

type accountKey struct{ name, host string }

// Users lists the users with the databases that they have rights on.
func (e *Engine) Users(ctx context.Context, l engine.Layout) ([]trove.User, error) {
	var all []trove.User
	err := e.Place(l).With(ctx, func(db *sql.Conn) (err error) {
		all, err = e.product.listUsers(ctx, db)
		return err
	})
	return all, err
}

func (p *Product) listUsers(ctx context.Context, db *sql.Conn) ([]trove.User, error) {
	grants, err := listGrants(ctx, db)
	if err != nil {
		return nil, err
	}
	all := []trove.User{}
	err = Texts(ctx, db, 2, func(v []string) {
		if v[0] != "" && !p.reserved(v[0]) {
			all = append(all, trove.User{Name: v[0], Host: v[1], Databases: grants[accountKey{v[0], v[1]}]})
		}
	}, p.SQL.Accounts)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	slices.SortFunc(all, func(a, b trove.User) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host)) })
	return all, nil
}

// listGrants returns the databases of each account, by name.
func listGrants(ctx context.Context, db *sql.Conn) (map[accountKey][]string, error) {
	grants := map[accountKey][]string{}
	err := Texts(ctx, db, 3, func(v []string) {
		key := accountKey{v[0], v[1]}
		if name := grantedName(v[2]); !slices.Contains(grants[key], name) {
			grants[key] = append(grants[key], name)
		}
	}, "SELECT User, Host, Db FROM mysql.db ORDER BY Db")
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	for _, names := range grants {
		slices.Sort(names)
	}
	return grants, nil
}

// readAuth returns how a user proves itself; NotFound if there is no such user.
func (p *Product) readAuth(ctx context.Context, db *sql.Conn, name, host string) (plugin, auth string, err error) {
	err = db.QueryRowContext(ctx, p.SQL.Auth, name, host).Scan(&plugin, &auth)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", noUser(name, host)
	}
	if err != nil {
		return "", "", fmt.Errorf("find user %s@%s: %w", name, host, err)
	}
	return plugin, auth, nil
}

func noUser(name, host string) error {
	return trove.Errorf(trove.KindNotFound, "The user %s@%s cannot be found.", name, host)
}

func (p *Product) checkNewUser(u trove.User) error {
	if err := p.checkUser(u.Name, u.Host); err != nil {
		return err
	}
	if err := checkPassword(u.Password); err != nil {
		return err
	}
	for _, d := range u.Databases {
		if err := checkDatabase(d); err != nil {
			return err
		}
	}
	return nil
}

func grant(name, host, database string) string {
	return "GRANT ALL PRIVILEGES ON " + quote(grantPattern(database)) + ".* TO " + account(name, host)
}

// CreateUser makes a user with rights on databases, which need not exist yet. If the rights cannot be given there is no user either.
func (e *Engine) CreateUser(ctx context.Context, l engine.Layout, u trove.User) error {
	u.Host = hostOrAny(u.Host)
	if err := e.product.checkNewUser(u); err != nil {
		return err
	}
	identified, err := e.product.identified(u.Password)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		err := Exec(ctx, db, "CREATE USER "+account(u.Name, u.Host)+identified)
		if isServer(err, errCannotUser) {
			return trove.Wrap(trove.KindConflict, err, "The user %s@%s exists already.", u.Name, u.Host)
		}
		for _, d := range u.Databases {
			if err == nil {
				err = Exec(ctx, db, grant(u.Name, u.Host, d))
			}
		}
		if err == nil {
			err = e.Place(l).newAccount(ctx, db)
		}
		if err != nil {
			undo := Exec(context.WithoutCancel(ctx), db, "DROP USER IF EXISTS "+account(u.Name, u.Host))
			return fmt.Errorf("create user %s@%s: %w", u.Name, u.Host, errors.Join(err, undo))
		}
		return nil
	})
}

// DropUser removes a user and its rights. Its open connections go on until they end.
func (e *Engine) DropUser(ctx context.Context, l engine.Layout, name, host string) error {
	host = hostOrAny(host)
	if err := e.product.checkUser(name, host); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		err := Exec(ctx, db, "DROP USER "+account(name, host))
		if isServer(err, errCannotUser) {
			return noUser(name, host)
		}
		if err != nil {
			return fmt.Errorf("drop user %s@%s: %w", name, host, err)
		}
		return nil
	})
}

// UpdateUser changes the password first and the name after it, the one that can fail; then the old password is put back. Should the guest die
// between the two, the same call makes it whole.
func (e *Engine) UpdateUser(ctx context.Context, l engine.Layout, name, host string, change engine.UserChange) error {
	host = hostOrAny(host)
	to, err := e.product.changed(name, host, change)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Place(l).With(ctx, func(db *sql.Conn) error {
		plugin, auth, err := e.product.readAuth(ctx, db, name, host)
		if err != nil {
			return err
		}
		if change.Password != nil {
			identified, err := e.product.identified(*change.Password)
			if err != nil {
				return err
			}
			if err := Exec(ctx, db, "ALTER USER "+account(name, host)+identified); err != nil {
				return fmt.Errorf("change the password of %s@%s: %w", name, host, err)
			}
		}
		if to == (accountKey{name, host}) {
			return nil
		}
		err = Exec(ctx, db, "RENAME USER "+account(name, host)+" TO "+account(to.name, to.host))
		if err == nil {
			return nil
		}
		if change.Password != nil {
			err = errors.Join(err, e.product.restoreAuth(context.WithoutCancel(ctx), db, name, host, plugin, auth))
		}
		if isServer(err, errCannotUser) {
			return trove.Wrap(trove.KindConflict, err, "The user %s@%s exists already.", to.name, to.host)
		}
		return fmt.Errorf("rename user %s@%s: %w", name, host, err)
	})
}

// changed checks a change and returns the account's name after it.
func (p *Product) changed(name, host string, change engine.UserChange) (accountKey, error) {
	to := accountKey{name, host}
	if err := p.checkUser(name, host); err != nil {
		return to, err
	}
	if change.Name != nil {
		to.name = *change.Name
	}
	if change.Host != nil {
		to.host = hostOrAny(*change.Host)
	}
	if change.Password != nil {
		if err := checkPassword(*change.Password); err != nil {
			return to, err
		}
	}
	return to, p.checkUser(to.name, to.host)
}

// identified is the clause of CREATE and ALTER USER for a password.
func (p *Product) identified(password trove.Secret) (string, error) {
	hash, err := p.Hash(password)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return p.Identified(hash), nil
}

func (p *Product) restoreAuth(ctx context.Context, db *sql.Conn, name, host, plugin, auth string) error {
	clause, ok := p.Restored(plugin, auth)
	if !ok {
		return fmt.Errorf("restore the password of %s@%s: its form is unknown", name, host)
	}
	if err := Exec(ctx, db, "ALTER USER "+account(name, host)+clause); err != nil {
		return fmt.Errorf("restore the password of %s@%s: %w", name, host, err)
	}
	return nil
}
