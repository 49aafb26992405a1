package sqlstore_test

import (
	"database/sql"
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
	wanted := map[string]string{sqlstore.DropAnswers: "(state=? AND answer_ends<?)"}
	for _, query := range sqlstore.VersionUses() {
		wanted[query] = "(datastore_version_id=?"
	}
	for query, by := range wanted {
		var plan []string
		each(t, db, "EXPLAIN QUERY PLAN "+strings.ReplaceAll(query, "?", "'x'"), func(rows *sql.Rows) error {
			var id, parent, unused int
			var step string
			err := rows.Scan(&id, &parent, &unused, &step)
			plan = append(plan, step)
			return err
		})
		if len(plan) != 1 || !strings.HasPrefix(plan[0], "SEARCH") || !strings.Contains(plan[0], by) {
			t.Errorf("%s\nis not found by %s: %q", query, by, plan)
		}
	}
}
