package local

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Catalog tells what can be asked for of the local cloud, in a process that makes nothing there.
type Catalog struct {
	provider Provider // only what reads the configuration is used
	tenant   func() (netip.Prefix, error)
}

var (
	_ cloud.Catalog      = (*Catalog)(nil)
	_ cloud.PublicAccess = (*Catalog)(nil)
)

// OpenCatalog returns the catalogue of a state directory, which must be there. It changes nothing on the machine and needs no Close. Of the
// configuration State, Dir, Images, Flavors, Public and what is said of the pool count. tenant returns the range of the tenant network, which another
// process makes and may change.
func OpenCatalog(c Config, tenant func() (netip.Prefix, error)) (*Catalog, error) {
	state, err := filepath.Abs(c.State)
	if err == nil {
		state, err = filepath.EvalSymlinks(state)
	}
	if err != nil {
		return nil, fmt.Errorf("open the catalogue of the local cloud: %w", err)
	}
	if len(c.Flavors) == 0 {
		c.Flavors = DefaultFlavors()
	}
	c.Flavors = slices.Clone(c.Flavors)
	k := &Catalog{provider: Provider{config: c, paths: newPaths(state)}, tenant: tenant}
	if c.Dir != "" {
		k.provider.paths.files = c.Dir
	}
	return k, nil
}

// Flavors is cloud.Catalog.Flavors.
func (c *Catalog) Flavors(ctx context.Context, by cloud.Rights) ([]trove.Flavor, error) {
	return c.provider.Flavors(ctx, by)
}

// Flavor is cloud.Catalog.Flavor.
func (c *Catalog) Flavor(ctx context.Context, by cloud.Rights, id string) (trove.Flavor, error) {
	return c.provider.Flavor(ctx, by, id)
}

// VolumeTypes is cloud.Catalog.VolumeTypes.
func (c *Catalog) VolumeTypes(ctx context.Context, by cloud.Rights) ([]cloud.VolumeType, error) {
	return c.provider.VolumeTypes(ctx, by)
}

// ImageExists is cloud.Catalog.ImageExists.
func (c *Catalog) ImageExists(ctx context.Context, id string) error {
	return c.provider.ImageExists(ctx, id)
}

// PublicAccess is cloud.PublicAccess.PublicAccess.
func (c *Catalog) PublicAccess(ctx context.Context) error { return c.provider.PublicAccess(ctx) }

// TenantNetworks is cloud.Catalog.TenantNetworks.
func (c *Catalog) TenantNetworks(context.Context, cloud.Rights) ([]cloud.TenantNetwork, error) {
	subnet, err := c.tenant()
	if err != nil {
		return nil, err
	}
	return []cloud.TenantNetwork{{
		ID: c.provider.networkID(), Name: "local", Subnets: []cloud.Subnet{{ID: c.provider.subnetID(), CIDR: subnet.String()}},
	}}, nil
}
