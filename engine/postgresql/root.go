package postgresql

import (
	"context"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// firstBoundCreateRole is the version in which CREATEROLE is bound to the roles that one administers. Before it whoever has it may give himself
// pg_execute_server_program, and so runs programs in the guest.
const firstBoundCreateRole = 16

// rootRoles are what the tenant's root is a member of, by the version that has them first: everything that does not lead out of the databases.
var rootRoles = map[string]int{
	"pg_monitor": 0, "pg_read_all_data": 0, "pg_write_all_data": 0, "pg_signal_backend": 0, "pg_checkpoint": 15, "pg_use_reserved_connections": 16,
	"pg_create_subscription": 16, "pg_maintain": 17,
}

// EnableRoot makes the role postgres, or lets it log in again, with the password.
func (e *Engine) EnableRoot(ctx context.Context, l engine.Layout, password trove.Secret) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	v, err := verifier(password)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	return p.with(ctx, adminDB, func(c conn) error { return p.enableRoot(ctx, c, v) })
}

func (p place) enableRoot(ctx context.Context, c conn, verifier string) error {
	major, err := p.major()
	if err != nil {
		return err
	}
	_, there, err := c.one(ctx, "SELECT 1 FROM pg_roles WHERE rolname = $1", rootName)
	if err != nil {
		return fmt.Errorf("find root: %w", err)
	}
	var statements []string
	if !there {
		statements = append(statements, "CREATE ROLE "+rootName)
	}
	attributes := " LOGIN NOSUPERUSER CREATEDB NOREPLICATION BYPASSRLS"
	if major >= firstBoundCreateRole {
		attributes += " CREATEROLE"
	}
	statements = append(statements, "ALTER ROLE "+rootName+attributes+" PASSWORD "+literal(verifier))
	for role, since := range rootRoles {
		if major >= since {
			statements = append(statements, "GRANT "+role+" TO "+rootName)
		}
	}
	if err := c.exec(ctx, strings.Join(statements, "; ")); err != nil {
		return fmt.Errorf("enable root: %w", err)
	}
	others, err := c.column(ctx, "SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_' AND rolname <> $1", rootName)
	if err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	for _, role := range others {
		if err := adopt(ctx, c, role); err != nil {
			return err
		}
	}
	return nil
}

// adopt puts a role under the tenant's root, if there is one: it may use and change what the role has, and the role itself where the version allows it. A role
// that root is a member of by the tenant's own doing, or that is a member of root, is left alone.
func adopt(ctx context.Context, c conn, role string) error {
	_, root, err := c.one(ctx, "SELECT 1 FROM pg_roles WHERE rolname = $1", rootName)
	if err != nil {
		return fmt.Errorf("find root: %w", err)
	}
	if !root {
		return nil
	}
	_, circle, err := c.one(ctx, "SELECT 1 WHERE pg_has_role($1::name, $2::name, 'MEMBER')", role, rootName)
	if err != nil {
		return fmt.Errorf("look whether %s is a member of root: %w", role, err)
	}
	if circle {
		return nil
	}
	if err := c.exec(ctx, "GRANT "+quote(role)+" TO "+rootName+" WITH ADMIN OPTION"); err != nil {
		return fmt.Errorf("put role %s under root: %w", role, err)
	}
	return nil
}

// DisableRoot keeps the role, which may own things, and lets nobody log in with it. Its sessions end. Accounts that the tenant made with it stay.
func (e *Engine) DisableRoot(ctx context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return place{l}.with(ctx, adminDB, func(c conn) error {
		_, there, err := c.one(ctx, "SELECT 1 FROM pg_roles WHERE rolname = $1", rootName)
		if err != nil {
			return fmt.Errorf("find root: %w", err)
		}
		if !there {
			return nil
		}
		if err := c.exec(ctx, "ALTER ROLE "+rootName+" NOLOGIN PASSWORD NULL"); err != nil {
			return fmt.Errorf("disable root: %w", err)
		}
		return sendAway(ctx, c, rootName, "")
	})
}

// RootEnabled reports whether somebody may log in as postgres.
func (e *Engine) RootEnabled(ctx context.Context, l engine.Layout) (bool, error) {
	enabled := false
	err := place{l}.with(ctx, adminDB, func(c conn) (err error) {
		_, enabled, err = c.one(ctx, "SELECT 1 FROM pg_roles WHERE rolname = $1 AND rolcanlogin", rootName)
		return err
	})
	return enabled, err
}
