package app

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/barbican"
)

// openVault returns where callers keep secrets that they name; nil where their tokens are none of OpenStack's, or there is no Barbican.
func (c *controllers) openVault(ctx context.Context) (secrets.Vault, error) {
	if c.cfg.Identity.Driver != config.IdentityKeystone || c.cfg.OpenStack.AuthURL == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	session, err := c.openStackSession(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := session.KeyManager(); trove.KindOf(err) == trove.KindNotImplemented {
		return nil, nil //nolint:nilnil // there is none
	}
	return barbican.Vault{Session: session}, nil
}
