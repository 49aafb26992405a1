package sqlstore_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/store/sqlstore"
)

// TestNoLookupReadsAWholeTable asks SQLite how it would find what is looked for with each delete of a datastore version and each pruning.
func TestNoLookupReadsAWholeTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open(t, sqlstore.Config{Path: path})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	queries := append(sqlstore.VersionUses(), sqlstore.DropAnswers,
		`SELECT id FROM backup WHERE deleted=0 AND datastore_version_id IN (SELECT id FROM datastore_version WHERE datastore_id=?) LIMIT 20`)
	for _, query := range queries {
		steps := 0
		each(t, db, "EXPLAIN QUERY PLAN "+strings.ReplaceAll(query, "?", "'x'"), func(rows *sql.Rows) error {
			var id, parent, unused int
			var step string
			err := rows.Scan(&id, &parent, &unused, &step)
			if steps++; strings.HasPrefix(step, "SCAN") {
				err = fmt.Errorf("%s\nreads a whole table: %s", query, step)
			}
			return err
		})
		if steps == 0 {
			t.Errorf("%s: nothing is said of it", query)
		}
	}
}
