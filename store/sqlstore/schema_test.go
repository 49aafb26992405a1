package sqlstore_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestSchemaTellsAndChangesNothing(t *testing.T) {
	cfg := sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true}
	found, err := sqlstore.SchemaOf(t.Context(), cfg)
	known := found.Known
	if _, statErr := os.Stat(cfg.Path); err != nil || found.At != 0 || known < 3 || !os.IsNotExist(statErr) {
		t.Fatalf("before it is made: %+v, %v", found, err)
	}
	st, err := sqlstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err = sqlstore.SchemaOf(t.Context(), cfg); err != nil || found.At != known {
		t.Errorf("after it was made: %+v, %v", found, err)
	}
	db, err := sql.Open("sqlite", cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "DELETE FROM goose_db_version WHERE version_id > 1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if found, err = sqlstore.SchemaOf(t.Context(), cfg); err != nil || found.At != 1 {
			t.Errorf("of an older release: %+v, %v", found, err)
		}
	}
}
