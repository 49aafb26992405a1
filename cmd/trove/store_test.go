package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestStoresOnServers runs trove manage db against real servers, with a state directory that has a store of SQLite.
func TestStoresOnServers(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{})
			testscript.Run(t, testscript.Params{
				Dir: "testdata/store",
				Setup: func(env *testscript.Env) error {
					db := server.Database(t)
					password, err := db.Password()
					if err != nil {
						return err
					}
					env.Setenv("URL", kind+"://"+db.User+"@"+db.Hosts[0]+"/"+db.Database)
					env.Setenv("PASSWORD", password.Reveal())
					env.Setenv("TROVE_STORE_PASSWORD_FILE", filepath.Join(env.WorkDir, "password"))
					if err := os.WriteFile(filepath.Join(env.WorkDir, "password"), []byte(password.Reveal()+"\n"), 0o600); err != nil {
						return err
					}
					state, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(env.WorkDir, "state", "store.db"), NoSync: true})
					if err != nil {
						return err
					}
					return state.Close()
				},
			})
		})
	}
}
