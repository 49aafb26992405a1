package app //nolint:testpackage // what a start does with images has no name outside

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// TestImagesAndVersionsThatAreThere: an image becomes the version of its name, who ever made it, and what an operator has switched off stays off.
func TestImagesAndVersionsThatAreThere(t *testing.T) {
	images := t.TempDir()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	for id, version := range map[string]string{"3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a51": "10.11", "3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a52": "11.8"} {
		if err := os.MkdirAll(filepath.Join(images, id), 0o700); err != nil {
			t.Fatal(err)
		}
		m := imagelayout.Manifest{ID: id, Datastore: "mariadb", Version: version, Manager: "mariadb", Capabilities: trove.Capabilities{Port: 3306}}
		if err := imagelayout.Write(images, m); err != nil {
			t.Fatal(err)
		}
	}
	err = st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "mariadb"}); err != nil {
			return err
		}
		return tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{ID: "imported", DatastoreID: "d", Name: "10.11", Version: "10.11", Manager: "mariadb"})
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := registerImages(t.Context(), st, images); err != nil {
			t.Fatal(err)
		}
		all, err := st.DatastoreVersions(t.Context(), "")
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		for _, v := range all {
			imported := v.Name == "10.11"
			if imported != (v.ID == "imported") || v.Active == imported || v.Capabilities.Port != 3306 || v.ImageID == "" || v.DatastoreID != "d" {
				t.Errorf("%+v", v)
			}
		}
	}
}
