package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/store"
)

// derivedID returns a UUID that depends on the parts alone (version 8, RFC 9562), so that a datastore and its versions keep their ids.
func derivedID(parts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return h[0:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

// registerImages makes every image of the directory a datastore version; of several images of one version the newest build wins, which is the one
// that list returns last. The first version of a datastore becomes its default. It may be repeated, and is at each start.
func registerImages(ctx context.Context, st store.Store, images string) error {
	manifests, err := imagelayout.List(images)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		if err := registerImage(ctx, st, m); err != nil {
			return fmt.Errorf("register the image of %s %s: %w", m.Datastore, m.Version, err)
		}
	}
	return nil
}

func registerImage(ctx context.Context, st store.Store, m imagelayout.Manifest) error {
	return st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		d, err := tx.Datastore(ctx, m.Datastore)
		if trove.IsNotFound(err) {
			d, err = trove.Datastore{ID: derivedID("datastore", m.Datastore), Name: m.Datastore}, nil
		}
		if err != nil {
			return err
		}
		v, err := versionOf(ctx, tx, d, m)
		if err != nil {
			return err
		}
		// Whether a version that is there is offered is the operator's decision.
		v.Name, v.Version, v.Manager, v.ImageID, v.Capabilities = m.Version, m.Version, m.Manager, m.ID, m.Capabilities
		if d.DefaultVersionID == "" {
			d.DefaultVersionID = v.ID
		}
		if err := tx.PutDatastore(ctx, d); err != nil {
			return err
		}
		return tx.PutDatastoreVersion(ctx, v)
	})
}

// versionOf returns the version that an image is of: the one of its name, who ever made it, or a new one.
func versionOf(ctx context.Context, tx store.Tx, d trove.Datastore, m imagelayout.Manifest) (trove.DatastoreVersion, error) {
	fresh := trove.DatastoreVersion{ID: derivedID("version", m.Datastore, m.Version), DatastoreID: d.ID, Active: true}
	known, err := tx.DatastoreVersions(ctx, d.ID)
	if err != nil {
		return fresh, err
	}
	found := fresh
	for _, v := range known {
		if v.ID == fresh.ID {
			return v, nil
		}
		if v.Name == m.Version && v.Version == m.Version {
			found = v
		}
	}
	return found, nil
}
