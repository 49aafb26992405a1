package fake

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// EnsureName is cloud.Names.EnsureName.
func (c *Cloud) EnsureName(ctx context.Context, instance string, _ []trove.Address) (string, error) {
	return call(ctx, c, "EnsureName", &instance, func() (string, after, error) {
		if c.opt.Domain == "" {
			return "", nil, nil
		}
		c.names[instance] = instance + "." + c.opt.Domain
		return c.names[instance], nil, nil
	})
}

// RemoveName is cloud.Names.RemoveName.
func (c *Cloud) RemoveName(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "RemoveName", &instance, func() (struct{}, after, error) {
		delete(c.names, instance)
		return struct{}{}, nil, nil
	})
	return err
}

// Flavors is cloud.Catalog.Flavors.
func (c *Cloud) Flavors(ctx context.Context, by cloud.Rights) ([]trove.Flavor, error) {
	return call(ctx, c, "Flavors", nil, func() ([]trove.Flavor, after, error) {
		return visible(c.state, by, c.opt.Flavors, func(f trove.Flavor) string { return f.ID }), nil, nil
	})
}

// Flavor is cloud.Catalog.Flavor.
func (c *Cloud) Flavor(ctx context.Context, by cloud.Rights, id string) (trove.Flavor, error) {
	return call(ctx, c, "Flavor", nil, func() (trove.Flavor, after, error) {
		for _, f := range c.opt.Flavors {
			if f.ID == id && !c.hidden[hiding{id, by.Token}] {
				return f, nil, nil
			}
		}
		return trove.Flavor{}, nil, trove.Errorf(trove.KindNotFound, "Flavor %s cannot be found.", id)
	})
}

// VolumeTypes is cloud.Catalog.VolumeTypes.
func (c *Cloud) VolumeTypes(ctx context.Context, by cloud.Rights) ([]cloud.VolumeType, error) {
	return call(ctx, c, "VolumeTypes", nil, func() ([]cloud.VolumeType, after, error) {
		return visible(c.state, by, c.opt.VolumeTypes, func(v cloud.VolumeType) string { return v.ID }), nil, nil
	})
}

// TenantNetworks is cloud.Catalog.TenantNetworks; every project has all of them, but for what is hidden.
func (c *Cloud) TenantNetworks(ctx context.Context, by cloud.Rights) ([]cloud.TenantNetwork, error) {
	return call(ctx, c, "TenantNetworks", nil, func() ([]cloud.TenantNetwork, after, error) {
		all := visible(c.state, by, c.opt.Networks, func(n cloud.TenantNetwork) string { return n.ID })
		for i := range all {
			all[i].Subnets = slices.Clone(all[i].Subnets)
		}
		return all, nil, nil
	})
}

// visible returns those of a list that are not hidden from the bearer of the rights' token. The caller holds the lock.
func visible[T any](s *state, by cloud.Rights, all []T, id func(T) string) []T {
	var seen []T
	for _, thing := range all {
		if !s.hidden[hiding{id(thing), by.Token}] {
			seen = append(seen, thing)
		}
	}
	return seen
}

// ImageExists is cloud.Catalog.ImageExists.
func (c *Cloud) ImageExists(ctx context.Context, id string) error {
	_, err := call(ctx, c, "ImageExists", nil, func() (struct{}, after, error) {
		if !slices.Contains(c.opt.Images, id) {
			return struct{}{}, nil, trove.Errorf(trove.KindNotFound, "Image %s cannot be found.", id)
		}
		return struct{}{}, nil, nil
	})
	return err
}
