package sqlstore_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// TestAStoreWithRowsGetsBackups brings a store with an instance from the schema before backups up to date.
func TestAStoreWithRowsGetsBackups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations/sqlite"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `INSERT INTO instance (id, project_id, name, created, updated, task, server_status, datastore_version_id, flavor_id,
volume_size, volume_type, region, availability_zone, locality, hostname, configuration_id, replica_of, access, nics, addresses, fault, compute_id, volume_id,
server_id, held, version) VALUES ('i', 'p', 'db', 1, 1, 1, 'ACTIVE', 'v', '2', 5, '', 'r', '', '', '', '', '', '', '', '', '', '', '', 7, '', 4)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, sqlstore.Config{Path: path})
	i, err := s.Instance(t.Context(), "i")
	if err != nil || i.BackingUp || !i.Storage.Empty() || i.ClusterID != "" || i.Version != 4 || i.VolumeSize != 5 {
		t.Errorf("%+v, %v", i, err)
	}
	single := ""
	found, err := s.Instances(t.Context(), store.InstanceFilter{ProjectID: "p", Cluster: &single})
	if err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := s.Backup(t.Context(), "b"); !trove.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
