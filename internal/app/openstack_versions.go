package app

import (
	"context"
	"errors"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/store"
)

// ImageVersions are the datastore versions of the store, as a bootstrap of OpenStack reads and writes them. The store is opened for each call, and made by the first
// one that writes.
type ImageVersions struct{ cfg config.Config }

var _ bootstrap.Registry = ImageVersions{}

// OpenImageVersions returns the datastore versions of a deployment.
func OpenImageVersions(cfg config.Config) ImageVersions { return ImageVersions{cfg} }

// VersionImage returns the image of the version that an image belongs to, "" if there is no such version. It changes nothing, not even an old schema.
func (v ImageVersions) VersionImage(ctx context.Context, m imagelayout.Manifest) (image string, err error) {
	schema, err := StoreSchema(ctx, v.cfg)
	if err != nil || schema.At == 0 {
		return "", err
	}
	if schema.At != schema.Known {
		return "", trove.Errorf(trove.KindConflict, "The store has schema %d and this program makes %d: run trove manage db sync first.", schema.At, schema.Known)
	}
	err = v.with(ctx, func(a *Admin) error {
		return a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			d, err := tx.Datastore(ctx, m.Datastore)
			if trove.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			_, known, err := versionOf(ctx, tx, d, m)
			image = known.ImageID
			return err
		})
	})
	return image, err
}

// RegisterVersion makes the version have an image, with what the manifest says of the engine.
func (v ImageVersions) RegisterVersion(ctx context.Context, m imagelayout.Manifest, image string) error {
	if err := StateDir(v.cfg.State).Make(); err != nil {
		return err
	}
	m.ID = image
	return v.with(ctx, func(a *Admin) error { return registerImage(ctx, a.store, m) })
}

func (v ImageVersions) with(ctx context.Context, f func(a *Admin) error) error {
	a, err := OpenAdmin(ctx, v.cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(a), a.Close())
}
