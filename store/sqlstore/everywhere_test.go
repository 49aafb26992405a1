package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// everywhere runs a test with a new database of each kind. Each call of open is another process at the same database.
func everywhere(t *testing.T, test func(t *testing.T, open func() *sqlstore.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		test(t, func() *sqlstore.Store { return open(t, sqlstore.Config{Path: path}) })
	})
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		test(t, func() *sqlstore.Store { return open(t, sqlstore.Config{Server: server}) })
	})
}

// onServers runs a test with a new database of each kind of server.
func onServers(t *testing.T, test func(t *testing.T, server *sqlstore.Server)) {
	t.Helper()
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) { test(t, dbserver.Shared(t, kind).Database(t)) })
	}
}
