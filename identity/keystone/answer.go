package keystone

import (
	"errors"
	"fmt"
	"time"

	"github.com/trove-dbaas/trove/identity"
)

// answer is what Keystone says of a token, as far as anybody here wants to know.
type answer struct {
	Token *struct {
		Expires   string   `json:"expires_at"`
		User      *member  `json:"user"`
		Project   *member  `json:"project"`
		Domain    *domain  `json:"domain"`
		System    *system  `json:"system"`
		Roles     []domain `json:"roles"`
		IsAdmin   *bool    `json:"is_admin_project"`
		AppSecret *struct {
			Rules *[]any `json:"access_rules"`
		} `json:"application_credential"`
	} `json:"token"`
}

type domain struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type member struct {
	domain
	Domain domain `json:"domain"`
}

type system struct {
	All bool `json:"all"`
}

// caller returns the caller, or an Unavailable error if the answer is not one of Keystone's.
func (a answer) caller() (identity.Caller, error) {
	t := a.Token
	if t == nil || t.User == nil || t.User.ID == "" {
		return identity.Caller{}, unavailable(errors.New("the answer names no user"))
	}
	expires, err := time.Parse(time.RFC3339, t.Expires)
	if err != nil {
		return identity.Caller{}, unavailable(fmt.Errorf("when the token expires cannot be read: %w", err))
	}
	if t.AppSecret != nil && t.AppSecret.Rules != nil {
		// Such a token is for some calls alone. Keystone shows it to those only who say that they look at its rules; we do not.
		return identity.Caller{}, errUnauthorized()
	}
	c := identity.Caller{
		UserID: t.User.ID, UserName: t.User.Name, UserDomainID: t.User.Domain.ID, Expires: expires.UTC(), IsAdminProject: true,
	}
	if t.IsAdmin != nil {
		c.IsAdminProject = *t.IsAdmin
	}
	if t.Project != nil {
		c.ProjectID, c.ProjectName, c.ProjectDomainID = t.Project.ID, t.Project.Name, t.Project.Domain.ID
	}
	if t.Domain != nil {
		c.DomainID = t.Domain.ID
	}
	c.System = t.System != nil && t.System.All
	for _, r := range t.Roles {
		c.Roles = append(c.Roles, r.Name)
	}
	return c, nil
}
