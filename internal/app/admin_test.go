package app_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/storetest"
)

const someImage = "3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a51"

func (d *deployment) admin(t *testing.T) *app.Admin {
	t.Helper()
	a, err := app.OpenAdmin(t.Context(), d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// TestVersionsTakeTheirAbilitiesFromTheImage: what the control plane must know of an engine is in the image's manifest; a version without an image here has
// what another of its manager has.
func TestVersionsTakeTheirAbilitiesFromTheImage(t *testing.T) {
	d := newDeployment(t)
	a := d.admin(t)
	caps := trove.Capabilities{Port: 3306, Volume: true, Client: []string{"mariadb"}}
	if err := os.MkdirAll(filepath.Join(app.ImagesDir(d.cfg), someImage), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := imagelayout.Write(app.ImagesDir(d.cfg), imagelayout.Manifest{ID: someImage, Datastore: "mariadb", Version: "10.11", Manager: "mariadb", Capabilities: caps}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.UpdateDatastore(t.Context(), "mysql", ""); err != nil {
		t.Fatal(err)
	}
	first := app.VersionSpec{Datastore: "mysql", Name: "8.4", Manager: "mariadb", Image: someImage, Active: true, Packages: []string{"a", "b"}}
	second := app.VersionSpec{Datastore: "mysql", Name: "8.4", Manager: "mariadb", Image: "elsewhere", Number: "8.4.2"}
	for n, s := range []app.VersionSpec{first, second, first, second} {
		if made, err := a.UpdateVersion(t.Context(), s); err != nil || made != (n < 2) {
			t.Errorf("%+v: made %t, %v", s, made, err)
		}
	}
	versions, err := d.store.DatastoreVersions(t.Context(), "")
	if err != nil || len(versions) != 2 {
		t.Fatalf("%+v, %v", versions, err)
	}
	for _, v := range versions {
		if diff := cmp.Diff(caps, v.Capabilities); diff != "" || v.Active != (v.Version == "8.4") || v.DatastoreName != "mysql" {
			t.Errorf("%+v %s", v, diff)
		}
	}
	if _, err := a.UpdateDatastore(t.Context(), "mysql", "8.4"); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("a default that is two: %v", err)
	}
	if _, err := a.UpdateDatastore(t.Context(), "mysql", versions[1].ID); err != nil {
		t.Error(err)
	}
	if found, err := d.store.Datastore(t.Context(), "mysql"); err != nil || found.DefaultVersionID != versions[1].ID {
		t.Errorf("%+v, %v", found, err)
	}
	wrong := first
	wrong.Manager = "postgresql"
	if _, err := a.UpdateVersion(t.Context(), wrong); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("another manager than the image's: %v", err)
	}
}

func TestAssociationsAreSets(t *testing.T) {
	d := newDeployment(t)
	a := d.admin(t)
	d.version(t)
	for _, step := range []struct {
		add, remove, want []string
	}{
		{nil, nil, []string{}},
		{[]string{"1", "2"}, nil, []string{"1", "2"}},
		{[]string{"2", "3", "3"}, nil, []string{"1", "2", "3"}},
		{nil, []string{"2", "9"}, []string{"1", "3"}},
		{nil, []string{"2"}, []string{"1", "3"}},
		{nil, nil, []string{"1", "3"}},
		{nil, []string{"1", "3"}, []string{}},
	} {
		for _, kind := range []app.Association{app.FlavorAssociation, app.VolumeTypeAssociation} {
			now, err := a.Associate(t.Context(), kind, "mysql", "8.4", "", step.add, step.remove)
			if err != nil || strings.Join(now, ",") != strings.Join(step.want, ",") {
				t.Errorf("%s %+v: %v, %v", kind, step, now, err)
			}
		}
	}
}

// version puts a version of mysql into the store.
func (d *deployment) version(t *testing.T) {
	t.Helper()
	err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "mysql"}); err != nil {
			return err
		}
		return tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{ID: "v", DatastoreID: "d", Name: "8.4", Version: "8.4", Manager: "mysql", Active: true})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpgradeCheckWarnsOfRunningTasks(t *testing.T) {
	d := newDeployment(t)
	level := func() app.CheckLevel {
		t.Helper()
		all, err := app.UpgradeCheck(t.Context(), d.cfg)
		if err != nil {
			t.Fatal(err)
		}
		worst := app.CheckSuccess
		for _, r := range all {
			worst = max(worst, r.Level)
		}
		return worst
	}
	if got := level(); got != app.CheckSuccess {
		t.Errorf("at rest: %s", got)
	}
	i := storetest.Instance("p")
	i.Task = trove.TaskResizing
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) }); err != nil {
		t.Fatal(err)
	}
	if got := level(); got != app.CheckWarning {
		t.Errorf("with a task: %s", got)
	}
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, storetest.Start) }); err != nil {
		t.Fatal(err)
	}
	if got := level(); got != app.CheckSuccess {
		t.Errorf("of a deleted one: %s", got)
	}
}
