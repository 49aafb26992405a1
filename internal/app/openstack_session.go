package app

import (
	"context"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/barbican"
)

// openStack logs in to OpenStack once, for all drivers of this process that need it.
func (c *controllers) openStack(ctx context.Context) (*osclient.Session, error) {
	if c.session != nil {
		return c.session, nil
	}
	cfg := openStackConfig(c.cfg)
	cfg.Log, cfg.Metrics = c.log, c.metrics
	s, err := osclient.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.session = s
	c.closing(s.Close)
	return s, nil
}

// openVault returns where callers keep secrets that they name; nil where their tokens are none of OpenStack's, or there is no Barbican.
func (c *controllers) openVault(ctx context.Context) (secrets.Vault, error) {
	if c.cfg.Identity.Driver != config.IdentityKeystone || c.cfg.OpenStack.AuthURL == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	session, err := c.openStack(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := session.KeyManager(); trove.KindOf(err) == trove.KindNotImplemented {
		return nil, nil //nolint:nilnil // there is none
	}
	return barbican.Vault{Session: session}, nil
}

// openStackConfig is the login that the configuration names.
func openStackConfig(cfg config.Config) osclient.Config {
	o := cfg.OpenStack
	path := o.PasswordFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(cfg.State, path)
	}
	return osclient.Config{
		AuthURL: o.AuthURL, Username: o.Username, UserDomain: o.UserDomain, Project: o.Project, ProjectDomain: o.ProjectDomain,
		Region: cfg.Region, Interface: o.Interface, CAFile: o.CAFile, Timeout: o.RequestTimeout,
		Password: func() (trove.Secret, error) {
			data, err := keyfile.Load(path)
			return trove.Secret(firstLine(data)), err
		},
	}
}
