package sqlstore_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/trove-dbaas/trove/store/sqlstore"
)

// TestConfigurationsAreAddedToAStoreWithRows brings a store from before the migration to the present schema.
func TestConfigurationsAreAddedToAStoreWithRows(t *testing.T) {
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
	for _, statement := range []string{
		`INSERT INTO datastore VALUES ('d', 'mariadb', 'v')`,
		`INSERT INTO datastore_version VALUES ('v', 'd', '10.11', '10.11', 'mariadb', 'i', 1, 'null', '{"port":3306}', 'null', 'null')`,
		`INSERT INTO instance VALUES ('one', 'p', 'shop', 1, 1, 0, 0, 1, 'ACTIVE', 'v', '1', 1, '', '', '', '', '', '', '', '', '', '', '', '', '', 7, '', 1)`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, sqlstore.Config{Path: path})
	v, err := s.DatastoreVersion(t.Context(), "v")
	if err != nil || v.Capabilities.Port != 3306 || v.ImageTags != nil {
		t.Errorf("the version is %+v, %v", v, err)
	}
	i, err := s.Instance(t.Context(), "one")
	if err != nil || i.Name != "shop" || i.ConfigurationID != "" {
		t.Errorf("the instance is %+v, %v", i, err)
	}
	if c, err := s.InstanceConfiguration(t.Context(), "one"); err != nil || c.Revision != 0 || c.Restart {
		t.Errorf("its configuration is %+v, %v", c, err)
	}
	if rules, err := s.Parameters(t.Context(), "v", true); err != nil || len(rules) != 0 {
		t.Errorf("its version has rules: %v, %v", rules, err)
	}
}
