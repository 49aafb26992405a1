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
		d, err := heldDatastore(ctx, tx, m.Datastore)
		if trove.IsNotFound(err) {
			d, err = trove.Datastore{ID: derivedID("datastore", m.Datastore), Name: m.Datastore}, nil
		}
		if err != nil {
			return err
		}
		v, known, err := versionOf(ctx, tx, d, m)
		if err != nil {
			return err
		}
		v.Manager, v.ImageID, v.Capabilities = m.Manager, m.ID, m.Capabilities
		if d.DefaultVersionID == "" {
			d.DefaultVersionID = v.ID
		}
		if err := tx.PutDatastore(ctx, d); err != nil {
			return err
		}
		if err := tx.PutDatastoreVersion(ctx, v); err != nil {
			return err
		}
		return loadRules(ctx, tx, v, known.ImageID != m.ID)
	})
}

// versionOf returns the version that an image is of: the one that was made for it, the one of its name, who ever made it, or a new one; and as it was known, the
// zero value if it was not. What administrators have changed since stays: the name, and whether it is active.
func versionOf(ctx context.Context, tx store.Tx, d trove.Datastore, m imagelayout.Manifest) (v, known trove.DatastoreVersion, err error) {
	fresh := trove.DatastoreVersion{
		ID: derivedID("version", m.Datastore, m.Version), DatastoreID: d.ID, Name: m.Version, Version: m.Version, Active: true,
	}
	all, err := tx.DatastoreVersions(ctx, d.ID)
	if err != nil {
		return fresh, known, err
	}
	for _, v := range all {
		if v.ID == fresh.ID {
			return v, v, nil
		}
		if v.Name == m.Version && v.Version == m.Version {
			known = v
		}
	}
	if known.ID != "" {
		return known, known, nil
	}
	return fresh, known, nil
}

// loadRules loads the rules of the engine's parameters into a version that has none, or whose image is another one. What administrators wrote or removed
// stays as it is.
func loadRules(ctx context.Context, tx store.Tx, v trove.DatastoreVersion, again bool) error {
	e, known := engines()[v.Manager]
	if !known {
		return nil
	}
	have, err := tx.Parameters(ctx, v.ID, true)
	if err != nil || (len(have) > 0 && !again) {
		return err
	}
	return tx.ReplaceParameters(ctx, v.ID, trove.MergeParameters(have, e.Rules(v.Version)))
}
