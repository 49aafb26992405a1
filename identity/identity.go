// Package identity is the port to who asks: it turns a token into a caller.
//
// Drivers: local (a small Keystone of our own), keystone; identitytest is the suite that each must pass. What a caller may do is decided in package
// identity/policy.
package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Tokens are what a request brings.
type Tokens struct {
	User    trove.Secret // X-Auth-Token
	Service trove.Secret // X-Service-Token: of a service that sends the request on the user's behalf; "": none
}

// Caller is who asks. Its lists are shared and must not be changed.
type Caller struct {
	UserID          string
	UserName        string
	UserDomainID    string
	ProjectID       string // "": the token is for no project
	ProjectName     string
	ProjectDomainID string
	DomainID        string // of a token for a domain
	System          bool   // a token for the whole system
	Roles           []string
	IsAdminProject  bool // true as well where Keystone does not distinguish one
	Expires         time.Time
	Token           trove.Secret // for what is done with the caller's own rights
	ServiceRoles    []string     // of the service that sent the request on the user's behalf; nil: none did
}

// HasRole reports whether the caller has the role; names compare as Keystone's do, without regard to case.
func (c Caller) HasRole(role string) bool {
	return slices.ContainsFunc(c.Roles, func(r string) bool { return strings.EqualFold(r, role) })
}

// Authenticator checks tokens. It may be used from several goroutines.
type Authenticator interface {
	// Authenticate returns the caller whom the user's token names, an Unauthorized error if it is not valid, and an Unavailable one when that cannot
	// be told now. A service token that is there must be valid too. A token that is revoked may be taken for valid for the driver's cache time; one
	// that has expired never is, unless a trusted service vouches for it. When ctx ends the call ends, and what others wait for goes on.
	Authenticate(ctx context.Context, t Tokens) (Caller, error)
	// AuthURL is where clients get tokens: it stands in the WWW-Authenticate header of a 401.
	AuthURL() string
}
