// Package identity is the port to who asks: it turns a token into a caller.
//
// Drivers: local (a small Keystone of our own), keystone. What a caller may do is decided in package identity/policy.
package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Caller is who asks.
type Caller struct {
	UserID      string
	UserName    string
	ProjectID   string
	ProjectName string
	DomainID    string
	Roles       []string
	Expires     time.Time
	Token       trove.Secret // for what is done with the caller's own rights
}

// HasRole reports whether the caller has the role; names compare as Keystone's do, without regard to case.
func (c Caller) HasRole(role string) bool {
	return slices.ContainsFunc(c.Roles, func(r string) bool { return strings.EqualFold(r, role) })
}

// Authenticator checks tokens. It may be used from several goroutines.
type Authenticator interface {
	// Authenticate returns the caller, an Unauthorized error for a token that is not valid, an Unavailable one when that cannot be told now.
	Authenticate(ctx context.Context, token trove.Secret) (Caller, error)
	// AuthURL is where clients get tokens: it stands in the WWW-Authenticate header of a 401.
	AuthURL() string
}
