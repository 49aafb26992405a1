package app

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// withStore runs do on the store of a state directory.
func withStore(t *testing.T, cfg config.Config, do func(st *sqlstore.Store)) {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: StateDir(cfg.State).Path("store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	do(st)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRulesAreLoadedWithTheImageAndAgain(t *testing.T) {
	cfg := config.Config{State: t.TempDir()}
	image := imagelayout.Manifest{ID: "2d7f3c74-6f2a-4b79-ab62-5c3e3c4d5e6f", Datastore: "mariadb", Version: "10.11", Manager: "mariadb"}
	version := derivedID("version", "mariadb", "10.11")
	driver := len(engines()["mariadb"].Rules("10.11"))
	rules := func() map[string]trove.Parameter {
		t.Helper()
		all := map[string]trove.Parameter{}
		withStore(t, cfg, func(st *sqlstore.Store) {
			found, err := st.Parameters(t.Context(), version, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range found {
				all[p.Name] = p
			}
		})
		return all
	}
	register := func(id string) {
		t.Helper()
		image.ID = id
		withStore(t, cfg, func(st *sqlstore.Store) {
			if err := registerImage(t.Context(), st, image); err != nil {
				t.Fatal(err)
			}
		})
	}
	register(image.ID)
	if n := len(rules()); n != driver || n < 100 {
		t.Fatalf("%d rules were loaded, the driver has %d", n, driver)
	}
	withStore(t, cfg, func(st *sqlstore.Store) {
		err := st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			v, err := tx.DatastoreVersion(ctx, version)
			if err != nil {
				return err
			}
			v.Active, v.Name = false, "renamed"
			if err := tx.PutDatastoreVersion(ctx, v); err != nil {
				return err
			}
			if err := tx.PutParameter(ctx, version, trove.Parameter{Name: "sql_mode", Type: trove.ParameterString, Deleted: true, Custom: true}); err != nil {
				return err
			}
			return tx.PutParameter(ctx, version, trove.Parameter{Name: "max_connections", Type: trove.ParameterInteger, Min: "1", Max: "5", Custom: true})
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	register("3d7f3c74-6f2a-4b79-ab62-5c3e3c4d5e6f") // another image of the version
	for range 2 {
		n, err := LoadParameters(t.Context(), cfg, Rules{Datastore: "mariadb", Version: "renamed"})
		if err != nil || n != driver-1 {
			t.Errorf("LoadParameters() = %d, %v, want %d", n, err, driver-1)
		}
	}
	if got := rules(); got["max_connections"].Max != "5" || got["sql_mode"].Name != "" {
		t.Errorf("what an administrator wrote was lost: %v, %v", got["max_connections"], got["sql_mode"])
	}
	withStore(t, cfg, func(st *sqlstore.Store) {
		if v, err := st.DatastoreVersion(t.Context(), version); err != nil || v.Active || v.Name != "renamed" || v.ImageID != image.ID {
			t.Errorf("the version is %+v, %v", v, err)
		}
	})
	if n, err := LoadParameters(t.Context(), cfg, Rules{Datastore: "mariadb", Version: version, Reset: true}); err != nil || n != driver {
		t.Errorf("LoadParameters() with a reset = %d, %v, want %d", n, err, driver)
	}
	for range 2 {
		if err := RemoveParameters(t.Context(), cfg, Rules{Datastore: "mariadb", Version: version}); err != nil {
			t.Error(err)
		}
	}
	if n := len(rules()); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}

func TestRulesFromAFile(t *testing.T) {
	for text, want := range map[string]int{
		`{"configuration-parameters":[{"name":"a","restart_required":true,"min":0,"max":18446744073709551615,"type":"integer"},{"name":"b","type":"string"}]}`: 2,
		`{"configuration-parameters":[]}`:                                                          -1,
		`{"configuration-parameters":[{"name":"a","type":"list"}]}`:                                -1,
		`{"configuration-parameters":[{"name":"a","type":"string"},{"name":"A","type":"string"}]}`: -1,
		`{"configuration-parameters":[{"name":"a","type":"integer","min":5,"max":1}]}`:             -1,
		`[]`: -1, `{`: -1,
	} {
		file := filepath.Join(t.TempDir(), "rules.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Rules{File: file}.rules(trove.DatastoreVersion{})
		if (err != nil) != (want < 0) || (want >= 0 && len(got) != want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
