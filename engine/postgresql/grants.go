package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Grant gives all rights on databases, which must be there.
func (e *Engine) Grant(ctx context.Context, l engine.Layout, name, host string, databases []string) error {
	if err := checkUser(name, host); err != nil {
		return err
	}
	for _, d := range databases {
		if err := checkDatabase(d); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	return p.with(ctx, adminDB, func(c conn) error {
		if err := findUser(ctx, c, name); err != nil {
			return err
		}
		if err := findDatabases(ctx, c, databases); err != nil {
			return err
		}
		return p.grant(ctx, c, name, databases)
	})
}

func findDatabases(ctx context.Context, c conn, wanted []string) error {
	if len(wanted) == 0 {
		return nil
	}
	all, err := c.column(ctx, "SELECT datname FROM pg_database")
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, d := range wanted {
		if !slices.Contains(all, d) {
			return noDatabase(d)
		}
	}
	return nil
}

// grant makes the user a member of the roles that own the databases; its sessions there begin as that role.
func (p place) grant(ctx context.Context, c conn, name string, databases []string) error {
	for _, d := range databases {
		owner, err := takeOver(ctx, c, d)
		if err != nil {
			return err
		}
		err = c.exec(ctx, "GRANT "+quote(owner)+" TO "+quote(name)+"; ALTER ROLE "+quote(name)+" IN DATABASE "+quote(d)+" SET role = "+literal(owner))
		if err != nil {
			return fmt.Errorf("grant rights on %s to %s: %w", d, name, err)
		}
	}
	return nil
}

// takeOver returns the role that owns a database. One that a tenant made by SQL gets such a role now, and its owner all rights on it.
func takeOver(ctx context.Context, c conn, database string) (owner string, err error) {
	owner = ownerOf(database)
	now, there, err := c.one(ctx, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", database)
	if err != nil {
		return "", fmt.Errorf("find database %s: %w", database, err)
	}
	if !there {
		return "", noDatabase(database)
	}
	if strings.HasPrefix(now, ownerStart) { // under another name where the tenant renamed the database
		return now, nil
	}
	if err := ensureOwner(ctx, c, owner); err != nil {
		return "", err
	}
	statement := "ALTER DATABASE " + quote(database) + " OWNER TO " + quote(owner)
	if now != adminName {
		statement += "; GRANT " + quote(owner) + " TO " + quote(now)
	}
	if err := c.exec(ctx, statement); err != nil {
		return "", fmt.Errorf("give database %s to role %s: %w", database, owner, err)
	}
	return owner, nil
}

// Revoke takes the rights on the database and ends the user's sessions in it, which would keep them.
func (e *Engine) Revoke(ctx context.Context, l engine.Layout, name, host, database string) error {
	if err := checkUser(name, host); err != nil {
		return err
	}
	if err := checkDatabase(database); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return place{l}.with(ctx, adminDB, func(c conn) error {
		if err := findUser(ctx, c, name); err != nil {
			return err
		}
		granted, err := c.rows(ctx, `SELECT g.rolname, pg_get_userbyid(m.grantor) FROM pg_database d JOIN pg_roles g ON g.oid = d.datdba
			JOIN pg_auth_members m ON m.roleid = g.oid JOIN pg_roles u ON u.oid = m.member WHERE d.datname = $1 AND u.rolname = $2`, database, name)
		if err != nil {
			return fmt.Errorf("find the rights of %s: %w", name, err)
		}
		if len(granted) == 0 {
			return trove.Errorf(trove.KindNotFound, "The user %s has no rights on the database %q.", name, database)
		}
		statements := []string{"ALTER ROLE " + quote(name) + " IN DATABASE " + quote(database) + " RESET role"}
		for _, g := range granted { // the tenant's root may have granted it too
			by := ""
			if len(granted) > 1 {
				by = " GRANTED BY " + quote(g[1])
			}
			statements = append(statements, "REVOKE "+quote(g[0])+" FROM "+quote(name)+by+" CASCADE")
		}
		if err := c.exec(ctx, strings.Join(statements, "; ")); err != nil {
			return fmt.Errorf("revoke rights on %s from %s: %w", database, name, err)
		}
		return sendAway(ctx, c, name, database)
	})
}
