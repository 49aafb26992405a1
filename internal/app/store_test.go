package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/storetest"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// onServer configures a deployment for a new database of a server, with the password in a file.
func onServer(t *testing.T, cfg *config.Config, kind string) {
	t.Helper()
	s := dbserver.Shared(t, kind).Database(t)
	password, err := s.Password()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store.URL = kind + "://" + s.User + "@" + s.Hosts[0] + "/" + s.Database
	cfg.Store.PasswordFile = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(cfg.Store.PasswordFile, []byte(password.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAStateDirectorysStoreMovesToAServer: the instances are there, and an export of it is one as before.
func TestAStateDirectorysStoreMovesToAServer(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			cfg, key := newState(t)
			i := storetest.Instance("p")
			st, err := openStore(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
			if err := errors.Join(err, st.Close()); err != nil {
				t.Fatal(err)
			}
			onServer(t, &cfg, kind)
			if err := oneStore(cfg); trove.KindOf(err) != trove.KindConflict || !strings.Contains(err.Error(), "manage db import") {
				t.Errorf("two stores: %v", err)
			}
			if rows, err := ImportStore(t.Context(), cfg); err != nil || rows < 3 {
				t.Fatalf("%d rows, %v", rows, err)
			}
			if err := oneStore(cfg); err != nil {
				t.Error(err)
			}
			if _, err := ImportStore(t.Context(), cfg); trove.KindOf(err) != trove.KindNotFound {
				t.Errorf("a second import: %v", err)
			}
			if all, err := Instances(t.Context(), cfg); err != nil || len(all) != 1 || all[0].ID != i.ID {
				t.Errorf("%d instances, %v", len(all), err)
			}
			path, m, err := Export(t.Context(), cfg, ExportRequest{Output: filepath.Join(t.TempDir(), "export")})
			if err != nil || m.Instances != 1 {
				t.Fatalf("%+v, %v", m, err)
			}
			for _, p := range m.Parts {
				if strings.Contains(p.Name, "imported") || strings.Contains(p.Name, ".migrate") {
					t.Errorf("%s is in the export", p.Name)
				}
			}
			_, err = Restore(t.Context(), cfg, RestoreRequest{File: path, Identity: key})
			if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(err.Error(), "store.url") {
				t.Errorf("a restore into a server: %v", err)
			}
			cfg.Store.URL = ""
			if _, err := Restore(t.Context(), cfg, RestoreRequest{File: path, Identity: key}); err != nil {
				t.Fatal(err)
			}
			if all, err := Instances(t.Context(), cfg); err != nil || len(all) != 1 {
				t.Errorf("after the restore: %d instances, %v", len(all), err)
			}
		})
	}
}

func TestThePasswordOfTheStoreIsInAFileOfItsOwn(t *testing.T) {
	cfg := config.Default()
	cfg.State = t.TempDir()
	onServer(t, &cfg, dbserver.PostgreSQL)
	if err := os.Chmod(cfg.Store.PasswordFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := storeConfig(cfg); err == nil || !strings.Contains(err.Error(), "store.password_file") {
		t.Errorf("a file that all can read: %v", err)
	}
	if err := os.Chmod(cfg.Store.PasswordFile, 0o600); err != nil {
		t.Fatal(err)
	}
	// As systemd hands it over.
	dir := t.TempDir()
	if err := os.Rename(cfg.Store.PasswordFile, filepath.Join(dir, storePassword)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	cfg.Store.PasswordFile = ""
	found, err := SyncStore(t.Context(), cfg)
	if err != nil || found.At != 0 || found.Known == 0 {
		t.Errorf("sync: %+v, %v", found, err)
	}
	if found, err := StoreSchema(t.Context(), cfg); err != nil || found.At != found.Known {
		t.Errorf("version: %+v, %v", found, err)
	}
}
