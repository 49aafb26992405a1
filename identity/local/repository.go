package local

import (
	"context"
	"time"
)

// User is somebody who can log in.
type User struct {
	ID           string
	Name         string
	PasswordHash string // argon2id in PHC format
	Enabled      bool
}

// Project is what owns instances.
type Project struct {
	ID      string
	Name    string
	Enabled bool
}

// Token is an issued token; only its hash is kept.
type Token struct {
	Hash      string // SHA-256 of the token, hexadecimal
	UserID    string
	ProjectID string // "" for an unscoped token
	Issued    time.Time
	Expires   time.Time
}

// Repository is the state that this driver needs; store/sqlstore implements it. What is not there is a trove.Error of kind NotFound. Put inserts
// or replaces by id. All methods may be called from several goroutines.
type Repository interface {
	IdentityUser(ctx context.Context, idOrName string) (User, error)
	PutIdentityUser(ctx context.Context, u User) error
	IdentityProject(ctx context.Context, idOrName string) (Project, error)
	// IdentityProjects returns the projects in which the user has a role, ordered by name; all projects for "".
	IdentityProjects(ctx context.Context, userID string) ([]Project, error)
	PutIdentityProject(ctx context.Context, p Project) error
	// IdentityRoles returns the names of the roles that the user has in the project, ordered.
	IdentityRoles(ctx context.Context, userID, projectID string) ([]string, error)
	// GrantIdentityRole gives a role; one that is there stays.
	GrantIdentityRole(ctx context.Context, userID, projectID, role string) error

	PutIdentityToken(ctx context.Context, t Token) error
	IdentityToken(ctx context.Context, hash string) (Token, error)
	DeleteIdentityToken(ctx context.Context, hash string) error
	// PruneIdentityTokens removes the tokens that expired before.
	PruneIdentityTokens(ctx context.Context, before time.Time) error
}
