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

// Users lists the users with the databases that they have all rights on.
func (e *Engine) Users(ctx context.Context, l engine.Layout) ([]trove.User, error) {
	var all []trove.User
	err := place{l}.with(ctx, adminDB, func(c conn) error {
		granted, err := c.rows(ctx, `SELECT u.rolname, d.datname FROM pg_database d JOIN pg_auth_members m ON m.roleid = d.datdba JOIN pg_roles u ON u.oid = m.member
			UNION SELECT u.rolname, d.datname FROM pg_database d JOIN pg_roles u ON u.oid = d.datdba`)
		if err != nil {
			return fmt.Errorf("list rights: %w", err)
		}
		databases := map[string][]string{}
		for _, r := range granted {
			if !slices.Contains(reservedDatabases, r[1]) {
				databases[r[0]] = append(databases[r[0]], r[1])
			}
		}
		names, err := c.column(ctx, "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolname !~ '^pg_'")
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		all = []trove.User{}
		for _, name := range names {
			if slices.Contains(reservedUsers, name) {
				continue
			}
			slices.Sort(databases[name])
			all = append(all, trove.User{Name: name, Host: "%", Databases: databases[name]})
		}
		slices.SortFunc(all, func(a, b trove.User) int { return cmp.Compare(a.Name, b.Name) })
		return nil
	})
	return all, err
}

func noUser(name string) error {
	return trove.Errorf(trove.KindNotFound, "The user %s cannot be found.", name)
}

// findUser is NotFound if there is no such user. Roles that nobody logs in with are no users.
func findUser(ctx context.Context, c conn, name string) error {
	_, there, err := c.one(ctx, "SELECT 1 FROM pg_roles WHERE rolname = $1 AND rolcanlogin AND NOT rolsuper", name)
	if err != nil {
		return fmt.Errorf("find user %s: %w", name, err)
	}
	if !there {
		return noUser(name)
	}
	return nil
}

func checkNewUser(u trove.User) error {
	if err := checkUser(u.Name, u.Host); err != nil {
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

// CreateUser makes a user with rights on databases, which must be there. If the rights cannot be given there is no user either.
func (e *Engine) CreateUser(ctx context.Context, l engine.Layout, u trove.User) error {
	if err := checkNewUser(u); err != nil {
		return err
	}
	v, err := verifier(u.Password)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	return p.with(ctx, adminDB, func(c conn) error {
		if err := findDatabases(ctx, c, u.Databases); err != nil {
			return err
		}
		if err := createUser(ctx, c, u.Name, v); err != nil {
			return err
		}
		err := p.grant(ctx, c, u.Name, u.Databases)
		if err == nil {
			return nil
		}
		if undo := c.exec(context.WithoutCancel(ctx), "DROP ROLE "+quote(u.Name)); undo != nil {
			err = fmt.Errorf("%w; and the user stays: %w", err, undo)
		}
		return err
	})
}

func createUser(ctx context.Context, c conn, name, verifier string) error {
	err := c.exec(ctx, "CREATE ROLE "+quote(name)+" LOGIN PASSWORD "+literal(verifier))
	if isServer(err, errObjectExists, errUniqueViolation) {
		return trove.Wrap(trove.KindConflict, err, "The user %s exists already.", name)
	}
	if err != nil {
		return fmt.Errorf("create user %s: %w", name, err)
	}
	return adopt(ctx, c, name)
}

// DropUser sends the user away, gives what it owns to the owner of the database that it is in, and removes it.
func (e *Engine) DropUser(ctx context.Context, l engine.Layout, name, host string) error {
	if err := checkUser(name, host); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	return p.with(ctx, adminDB, func(c conn) error {
		if err := findUser(ctx, c, name); err != nil {
			return err
		}
		if err := c.exec(ctx, "ALTER ROLE "+quote(name)+" CONNECTION LIMIT 0"); err != nil {
			return fmt.Errorf("close the server to user %s: %w", name, err)
		}
		if err := sendAway(ctx, c, name, ""); err != nil {
			return err
		}
		if err := p.disown(ctx, c, name); err != nil {
			return err
		}
		if err := c.exec(ctx, "DROP ROLE "+quote(name)); err != nil {
			return fmt.Errorf("drop user %s: %w", name, err)
		}
		return nil
	})
}

// disown leaves a role without anything that keeps it from being dropped. Databases of its own get a role that owns them; what it has in a database goes to
// the owner of that; its rights go.
func (p place) disown(ctx context.Context, c conn, name string) error {
	own, err := c.column(ctx, "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = $1", name)
	if err != nil {
		return fmt.Errorf("list the databases of %s: %w", name, err)
	}
	for _, d := range own {
		if _, err := takeOver(ctx, c, d); err != nil {
			return err
		}
	}
	databases, err := c.rows(ctx, `SELECT d.datname, r.rolname, r.rolsuper::text FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
		WHERE d.datallowconn ORDER BY d.datname <> $1, d.datname`, "template1")
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, d := range databases {
		err := p.with(ctx, d[0], func(c conn) error {
			var statements []string
			if d[2] == "false" { // a superuser must not become the owner of what a tenant wrote: functions run with their owner's rights
				statements = append(statements, "REASSIGN OWNED BY "+quote(name)+" TO "+quote(d[1]))
			}
			return c.exec(ctx, strings.Join(append(statements, "DROP OWNED BY "+quote(name)), "; "))
		})
		if err != nil {
			return fmt.Errorf("give away what %s has in database %s: %w", name, d[0], err)
		}
	}
	return nil
}

// sendAway ends a role's sessions in a database, or in all.
func sendAway(ctx context.Context, c conn, name, database string) error {
	_, err := c.rows(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND ($2 = '' OR datname = $2)", name, database)
	if err != nil {
		return fmt.Errorf("end the sessions of %s: %w", name, err)
	}
	return nil
}

// UpdateUser changes password and name in one transaction.
func (e *Engine) UpdateUser(ctx context.Context, l engine.Layout, name, host string, change engine.UserChange) error {
	if err := checkUser(name, host); err != nil {
		return err
	}
	to := name
	if change.Name != nil {
		to = *change.Name
	}
	if change.Host != nil {
		host = *change.Host
	}
	if err := checkUser(to, host); err != nil {
		return err
	}
	var statements []string
	if change.Password != nil {
		if err := checkPassword(*change.Password); err != nil {
			return err
		}
		v, err := verifier(*change.Password)
		if err != nil {
			return err
		}
		statements = append(statements, "ALTER ROLE "+quote(name)+" PASSWORD "+literal(v))
	}
	if to != name {
		statements = append(statements, "ALTER ROLE "+quote(name)+" RENAME TO "+quote(to))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return place{l}.with(ctx, adminDB, func(c conn) error {
		if err := findUser(ctx, c, name); err != nil {
			return err
		}
		err := c.exec(ctx, strings.Join(statements, "; ")) // one message is one transaction
		if isServer(err, errObjectExists, errUniqueViolation) {
			return trove.Wrap(trove.KindConflict, err, "The user %s exists already.", to)
		}
		if err != nil {
			return fmt.Errorf("update user %s: %w", name, err)
		}
		return nil
	})
}
