package sqlstore_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// schema is what the databases must have in common: "table.column" or "table(index columns)" to what it is.
type schema map[string]string

// TestSchemasAreTheSame compares tables, columns, kinds, defaults, keys and indexes of all databases after all migrations.
func TestSchemasAreTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open(t, sqlstore.Config{Path: path})
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	want := readSchema(t, db, sqliteColumns, sqliteIndexes)
	if len(want) < 100 {
		t.Fatalf("only %d columns and indexes were read", len(want))
	}
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Shared(t, kind)
			cfg := server.Database(t)
			open(t, sqlstore.Config{Server: cfg})
			columns, indexes := postgresColumns, postgresIndexes
			if kind == dbserver.MariaDB {
				columns, indexes = mariadbColumns, mariadbIndexes
			}
			got := readSchema(t, server.Open(t, cfg.Database), columns, indexes)
			for _, diff := range compare(want, got, kind) {
				t.Error(diff)
			}
		})
	}
}

// TestEachDatabaseHasEachMigration names the files that are missing.
func TestEachDatabaseHasEachMigration(t *testing.T) {
	files := map[string][]string{}
	for _, kind := range append([]string{"sqlite"}, dbserver.Kinds...) {
		entries, err := os.ReadDir(filepath.Join("migrations", kind))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files[e.Name()] = append(files[e.Name()], kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, kind := range append([]string{"sqlite"}, dbserver.Kinds...) {
			if !slices.Contains(files[name], kind) {
				t.Errorf("store/sqlstore/migrations/%s/%s is missing; it is there for %s", kind, name, strings.Join(files[name], ", "))
			}
		}
	}
}

// compare says what differs, in sentences that name the place.
func compare(want, got schema, kind string) (diffs []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		switch have, there := got[key]; {
		case !there:
			diffs = append(diffs, fmt.Sprintf("%s has no %s (%s), which sqlite has: add it in store/sqlstore/migrations/%s", kind, key, want[key], kind))
		case have != want[key]:
			diffs = append(diffs, fmt.Sprintf("%s is %q in %s and %q in sqlite", key, have, kind, want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, there := want[key]; !there {
			diffs = append(diffs, fmt.Sprintf("sqlite has no %s (%s), which %s has", key, got[key], kind))
		}
	}
	return diffs
}

func TestCompareSaysWhatIsMissingWhere(t *testing.T) {
	want := schema{"a.x": "bigint", "a.y": "text", "b.z": "text"}
	got := schema{"a.x": "integer", "a.y": "text", "c.z": "text"}
	diffs := strings.Join(compare(want, got, "mariadb"), "\n")
	for _, part := range []string{`mariadb has no b.z (text)`, `a.x is "integer" in mariadb and "bigint" in sqlite`, `sqlite has no c.z`} {
		if !strings.Contains(diffs, part) {
			t.Errorf("%q is not in %s", part, diffs)
		}
	}
}

// The queries return table, column, kind, whether it may be NULL, and default; and table, index, unique, primary, column, in the order of the index.
const (
	sqliteColumns = `SELECT m.name, c.name, LOWER(c.type), c."notnull"=0 AND c.pk=0, COALESCE(c.dflt_value, '-') FROM sqlite_master m
JOIN pragma_table_info(m.name) c WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version'`
	sqliteIndexes = `SELECT m.name, i.name, i."unique"=1, i.origin='pk', c.name FROM sqlite_master m JOIN pragma_index_list(m.name) i
JOIN pragma_index_info(i.name) c WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version' ORDER BY m.name, i.name, c.seqno`

	postgresColumns = `SELECT table_name, column_name, CASE WHEN data_type='character varying' THEN 'varchar(' || character_maximum_length || ')' ELSE data_type END
|| CASE WHEN data_type IN ('character varying', 'text') AND COALESCE(collation_name, '') <> 'C' THEN ' with a collation' ELSE '' END,
is_nullable='YES', COALESCE(column_default, '-') FROM information_schema.columns WHERE table_schema='public' AND table_name <> 'goose_db_version'`
	postgresIndexes = `SELECT t.relname, i.relname, x.indisunique, x.indisprimary, a.attname FROM pg_index x JOIN pg_class t ON t.oid=x.indrelid
JOIN pg_class i ON i.oid=x.indexrelid JOIN pg_namespace n ON n.oid=t.relnamespace
CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY k(num, pos) JOIN pg_attribute a ON a.attrelid=t.oid AND a.attnum=k.num
WHERE n.nspname='public' AND t.relname <> 'goose_db_version' ORDER BY t.relname, i.relname, k.pos`

	mariadbColumns = `SELECT table_name, column_name, CONCAT(CASE data_type WHEN 'int' THEN 'integer' WHEN 'longtext' THEN 'text' WHEN 'double' THEN 'double precision'
WHEN 'varchar' THEN column_type ELSE data_type END, CASE WHEN COALESCE(collation_name, 'utf8mb4_nopad_bin') <> 'utf8mb4_nopad_bin' THEN ' with a collation' ELSE '' END),
is_nullable='YES', COALESCE(column_default, '-') FROM information_schema.columns WHERE table_schema=DATABASE() AND table_name <> 'goose_db_version'`
	mariadbIndexes = `SELECT table_name, index_name, non_unique=0, index_name='PRIMARY', column_name FROM information_schema.statistics
WHERE table_schema=DATABASE() AND table_name <> 'goose_db_version' ORDER BY table_name, index_name, seq_in_index`
)

func readSchema(t *testing.T, db *sql.DB, columns, indexes string) schema {
	t.Helper()
	all := schema{}
	each(t, db, columns, func(rows *sql.Rows) error {
		var table, column, kind, fallback string
		var null bool
		err := rows.Scan(&table, &column, &kind, &null, &fallback)
		fallback = regexp.MustCompile(`::[a-z ]+$`).ReplaceAllString(fallback, "")
		if fallback == "NULL" {
			fallback = "-" // MariaDB's way to say that there is none
		}
		all[table+"."+column] = fmt.Sprintf("%s, null %t, default %s", kind, null, fallback)
		return err
	})
	type index struct {
		table, name     string
		unique, primary bool
		columns         []string
	}
	found := map[string]*index{}
	each(t, db, indexes, func(rows *sql.Rows) error {
		var i index
		var column string
		err := rows.Scan(&i.table, &i.name, &i.unique, &i.primary, &column)
		key := i.table + " " + i.name
		found[key] = cmp.Or(found[key], &i)
		found[key].columns = append(found[key].columns, column)
		return err
	})
	for _, i := range found {
		all[fmt.Sprintf("%s(%s)", i.table, strings.Join(i.columns, ", "))] = fmt.Sprintf("unique %t, primary %t", i.unique, i.primary)
	}
	return all
}

func each(t *testing.T, db *sql.DB, query string, scan func(*sql.Rows) error) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // Err says more
	for rows.Next() {
		if err := scan(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestSeveralControllersMigrateOnce starts several at a database without a schema.
func TestSeveralControllersMigrateOnce(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		did := 0
		for range 5 {
			wg.Go(func() {
				found, err := sqlstore.Migrate(t.Context(), sqlstore.Config{Server: server})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("migrate: %v", err)
				}
				if found.At != found.Known {
					did++
				}
			})
		}
		wg.Wait()
		if did != 1 {
			t.Errorf("%d of them migrated", did)
		}
		got, err := sqlstore.SchemaOf(t.Context(), sqlstore.Config{Server: server})
		if err != nil || got.At != got.Known || got.At < 3 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestMariaDBMigrationThatWasCutOff: statements that change tables are committed one by one there, and can all be run again.
func TestMariaDBMigrationThatWasCutOff(t *testing.T) {
	server := dbserver.Shared(t, dbserver.MariaDB)
	cfg := server.Database(t)
	db := server.Open(t, cfg.Database)
	text, err := os.ReadFile("migrations/mariadb/00001_first.sql")
	if err != nil {
		t.Fatal(err)
	}
	statements := strings.Split(string(text), ";")
	for _, s := range statements[:len(statements)/2] {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := pair(t.Context(), open(t, sqlstore.Config{Server: cfg}), "x"); err != nil {
		t.Error(err)
	}
}

// TestANewerSchemaOfAServerIsRefused: the program is older than the one that wrote the store.
func TestANewerSchemaOfAServerIsRefused(t *testing.T) {
	onServers(t, func(t *testing.T, cfg *sqlstore.Server) {
		open(t, sqlstore.Config{Server: cfg})
		db := dbserver.Shared(t, cfg.Driver).Open(t, cfg.Database)
		flag := map[string]string{dbserver.PostgreSQL: "true", dbserver.MariaDB: "1"}[cfg.Driver]
		if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, `+flag+`)`); err != nil {
			t.Fatal(err)
		}
		if _, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: cfg}); err == nil || !strings.Contains(err.Error(), "schema 9999") {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// TestAnAccountThatMayNotChangeTablesIsEnough once another one has migrated.
func TestAnAccountThatMayNotChangeTablesIsEnough(t *testing.T) {
	onServers(t, func(t *testing.T, cfg *sqlstore.Server) {
		open(t, sqlstore.Config{Server: cfg})
		server := dbserver.Shared(t, cfg.Driver)
		db := server.Open(t, cfg.Database)
		name := "small_" + cfg.Database
		statements := []string{
			`CREATE USER ` + name + `@'%' IDENTIFIED BY 'correct horse'`, `GRANT SELECT, INSERT, UPDATE, DELETE ON ` + cfg.Database + `.* TO ` + name + `@'%'`,
		}
		if cfg.Driver == dbserver.PostgreSQL {
			statements = []string{
				`CREATE ROLE ` + name + ` LOGIN PASSWORD 'correct horse'`, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ` + name,
			}
		}
		for _, s := range statements {
			if _, err := db.ExecContext(context.WithoutCancel(t.Context()), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		small := *cfg
		small.User = name
		if err := pair(t.Context(), open(t, sqlstore.Config{Server: &small}), "x"); err != nil {
			t.Error(err)
		}
	})
}
