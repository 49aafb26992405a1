package app

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/keystone"
	identitylocal "github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// openIdentity opens who checks tokens, for an API at url. The handler is where clients log in, nil if that is not here.
func (c *controllers) openIdentity(ctx context.Context, url string) (identity.Authenticator, http.Handler, error) {
	if c.cfg.Identity.Driver == config.IdentityKeystone {
		id, err := c.openKeystone()
		return id, nil, err
	}
	id := identitylocal.New(identitylocal.Config{Repository: c.store, Clock: c.clock, Log: c.log, PublicURL: strings.TrimSuffix(c.cfg.API.PublicURL, "/"), Region: c.cfg.Region})
	if err := c.ensureAccounts(ctx, id, url, binDir()); err != nil {
		return nil, nil, err
	}
	return id, id, nil
}

func (c *controllers) openKeystone() (*keystone.Authenticator, error) {
	cfg := c.cfg.Identity
	password := func() (trove.Secret, error) {
		path := cfg.PasswordFile
		if !filepath.IsAbs(path) {
			path = c.state.Path(path)
		}
		data, err := keyfile.Load(path)
		if err != nil {
			return "", fmt.Errorf("identity.password_file: %w", err)
		}
		return passwordIn(data), nil
	}
	if _, err := password(); err != nil { // what is wrong from the beginning is known at the start, not at the first request
		return nil, err
	}
	id, err := keystone.New(keystone.Config{
		AuthURL: cfg.AuthURL, PublicURL: cfg.PublicAuthURL, Username: cfg.Username, Password: password, Project: cfg.Project,
		UserDomain: cfg.UserDomain, ProjectDomain: cfg.ProjectDomain, Region: cfg.Region, Interface: cfg.Interface, CAFile: cfg.CAFile,
		ServiceRoles: cfg.ServiceRoles, AnyService: !cfg.ServiceRolesRequired,
		CacheTime: cfg.CacheTime, CacheSize: cfg.CacheSize, Timeout: cfg.Timeout, Clock: c.clock, Log: c.log, Metrics: c.metrics,
	})
	if err != nil {
		return nil, err
	}
	c.closing(id.Close)
	return id, nil
}
