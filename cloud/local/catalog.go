package local

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// volumeType is the only kind of volume here.
const volumeType = "default"

// Flavors is cloud.Catalog.Flavors. Everybody may see everything here.
func (p *Provider) Flavors(context.Context, cloud.Rights) ([]trove.Flavor, error) {
	return slices.Clone(p.config.Flavors), nil
}

// Flavor is cloud.Catalog.Flavor.
func (p *Provider) Flavor(_ context.Context, _ cloud.Rights, id string) (trove.Flavor, error) {
	for _, f := range p.config.Flavors {
		if f.ID == id {
			return f, nil
		}
	}
	return trove.Flavor{}, trove.Errorf(trove.KindNotFound, "Flavor %s cannot be found.", id)
}

// VolumeTypes is cloud.Catalog.VolumeTypes.
func (p *Provider) VolumeTypes(context.Context, cloud.Rights) ([]cloud.VolumeType, error) {
	return []cloud.VolumeType{{
		ID: volumeType, Name: volumeType, Description: "a file of this machine with a file system of its own", IsPublic: true,
	}}, nil
}

// ImageExists is cloud.Catalog.ImageExists.
func (p *Provider) ImageExists(_ context.Context, id string) error {
	_, err := imagelayout.Read(p.config.Images, id)
	return err
}

// EnsureName is cloud.Names.EnsureName: there is no name service.
func (p *Provider) EnsureName(_ context.Context, instance string, _ []trove.Address) (string, error) {
	return "", checkID(instance)
}

// RemoveName is cloud.Names.RemoveName.
func (p *Provider) RemoveName(_ context.Context, instance string) error { return checkID(instance) }
