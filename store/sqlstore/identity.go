package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/trove-dbaas/trove/identity/local"
)

// one reads one row; what is not there is NotFound under the given name.
func (s *Store) one(ctx context.Context, name string, dest []any, query string, args ...any) error {
	err := s.run.row(ctx, dest, query, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return notFound(name)
	}
	if err != nil {
		return fmt.Errorf("read the identity store: %w", err)
	}
	return nil
}

// IdentityUser finds a user by id or name.
func (s *Store) IdentityUser(ctx context.Context, idOrName string) (local.User, error) {
	var u local.User
	err := s.one(ctx, idOrName, []any{&u.ID, &u.Name, &u.PasswordHash, &u.Enabled}, `SELECT id, name, password_hash, enabled FROM identity_user
WHERE id=? OR name=? ORDER BY CASE WHEN id=? THEN 0 ELSE 1 END LIMIT 1`, idOrName, idOrName, idOrName)
	return u, err
}

// PutIdentityUser inserts or replaces a user.
func (s *Store) PutIdentityUser(ctx context.Context, u local.User) error {
	return s.inTx(ctx, "put user "+u.ID, func(ctx context.Context, run runner) error {
		return put(ctx, run, `UPDATE identity_user SET name=?, password_hash=?, enabled=? WHERE id=?`,
			`INSERT INTO identity_user (name, password_hash, enabled, id) VALUES (?,?,?,?)`, u.Name, u.PasswordHash, flag(u.Enabled), u.ID)
	})
}

// IdentityProject finds a project by id or name.
func (s *Store) IdentityProject(ctx context.Context, idOrName string) (local.Project, error) {
	var p local.Project
	err := s.one(ctx, idOrName, []any{&p.ID, &p.Name, &p.Enabled}, `SELECT id, name, enabled FROM identity_project
WHERE id=? OR name=? ORDER BY CASE WHEN id=? THEN 0 ELSE 1 END LIMIT 1`, idOrName, idOrName, idOrName)
	return p, err
}

// IdentityProjects returns the projects in which the user has a role, ordered by name; all projects for "".
func (s *Store) IdentityProjects(ctx context.Context, userID string) ([]local.Project, error) {
	query, args := `SELECT id, name, enabled FROM identity_project ORDER BY name`, []any(nil)
	if userID != "" {
		query = `SELECT id, name, enabled FROM identity_project WHERE id IN (SELECT project_id FROM identity_role WHERE user_id=?) ORDER BY name`
		args = []any{userID}
	}
	var found []local.Project
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var p local.Project
		err := rows.Scan(&p.ID, &p.Name, &p.Enabled)
		found = append(found, p)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list projects: %w", err)
	}
	return found, nil
}

// PutIdentityProject inserts or replaces a project.
func (s *Store) PutIdentityProject(ctx context.Context, p local.Project) error {
	return s.inTx(ctx, "put project "+p.ID, func(ctx context.Context, run runner) error {
		return put(ctx, run, `UPDATE identity_project SET name=?, enabled=? WHERE id=?`,
			`INSERT INTO identity_project (name, enabled, id) VALUES (?,?,?)`, p.Name, flag(p.Enabled), p.ID)
	})
}

// IdentityRoles returns the names of the roles that the user has in the project, ordered.
func (s *Store) IdentityRoles(ctx context.Context, userID, projectID string) ([]string, error) {
	var found []string
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var role string
		err := rows.Scan(&role)
		found = append(found, role)
		return err
	}, `SELECT role FROM identity_role WHERE user_id=? AND project_id=? ORDER BY role`, userID, projectID)
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	return found, nil
}

// GrantIdentityRole gives a role; one that is there stays.
func (s *Store) GrantIdentityRole(ctx context.Context, userID, projectID, role string) error {
	return s.inTx(ctx, "grant a role to "+userID, func(ctx context.Context, run runner) error {
		var one int
		err := run.row(ctx, []any{&one}, `SELECT 1 FROM identity_role WHERE user_id=? AND project_id=? AND role=?`, userID, projectID, role)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = run.exec(ctx, `INSERT INTO identity_role (user_id, project_id, role) VALUES (?,?,?)`, userID, projectID, role)
		}
		return err
	})
}

// PutIdentityToken inserts or replaces a token by its hash.
func (s *Store) PutIdentityToken(ctx context.Context, t local.Token) error {
	return s.inTx(ctx, "put a token of "+t.UserID, func(ctx context.Context, run runner) error {
		return put(ctx, run, `UPDATE identity_token SET user_id=?, project_id=?, issued=?, expires=? WHERE hash=?`,
			`INSERT INTO identity_token (user_id, project_id, issued, expires, hash) VALUES (?,?,?,?,?)`,
			t.UserID, t.ProjectID, micros(t.Issued), micros(t.Expires), t.Hash)
	})
}

// IdentityToken finds a token by its hash, also an expired one.
func (s *Store) IdentityToken(ctx context.Context, hash string) (local.Token, error) {
	t := local.Token{Hash: hash}
	var issued, expires int64
	err := s.one(ctx, "token", []any{&t.UserID, &t.ProjectID, &issued, &expires},
		`SELECT user_id, project_id, issued, expires FROM identity_token WHERE hash=?`, hash)
	t.Issued, t.Expires = fromMicros(issued), fromMicros(expires)
	return t, err
}

// DeleteIdentityToken removes a token; one that is gone is fine.
func (s *Store) DeleteIdentityToken(ctx context.Context, hash string) error {
	return s.inTx(ctx, "delete a token", func(ctx context.Context, run runner) error {
		_, err := run.exec(ctx, `DELETE FROM identity_token WHERE hash=?`, hash)
		return err
	})
}

// PruneIdentityTokens removes the tokens that expired before.
func (s *Store) PruneIdentityTokens(ctx context.Context, before time.Time) error {
	return s.inTx(ctx, "prune tokens", func(ctx context.Context, run runner) error {
		_, err := run.exec(ctx, `DELETE FROM identity_token WHERE expires < ?`, micros(before))
		return err
	})
}
