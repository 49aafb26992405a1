package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// table is what is copied of a table: all of its columns.
type table struct {
	name    string
	columns []string
}

// Export writes a copy of the store into a new file, a store of SQLite: as of one moment, also while others write. With SQLite it is Snapshot.
func Export(ctx context.Context, cfg Config, to string) (err error) {
	if cfg.Server == nil {
		return Snapshot(ctx, cfg.Path, to)
	}
	if _, err := os.Stat(to); err == nil {
		return fmt.Errorf("copy the store: %s exists", to)
	}
	file, err := Open(ctx, Config{Path: to, NoSync: true})
	if err != nil {
		return err
	}
	if err := errors.Join(cfg.exportTo(ctx, file), file.Close()); err != nil {
		return fmt.Errorf("copy the store: %w", err)
	}
	_ = os.Remove(to + ".migrate") // nobody else opens a copy
	return checkCopy(ctx, to)
}

func (c Config) exportTo(ctx context.Context, file *Store) (err error) {
	// A newer schema has columns that the copy would lack.
	if at, err := SchemaOf(ctx, c); err != nil || at.At != at.Known {
		return errors.Join(err, fmt.Errorf("the store has schema %d, this program knows %d", at.At, at.Known))
	}
	from, err := c.Server.open(ctx, forMigration, nil) // whose connections have no time limits
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	tables, err := tablesOf(ctx, file.readers)
	if err != nil {
		return err
	}
	// All tables as of one moment.
	read, err := from.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
	}
	defer read.Rollback() //nolint:errcheck // it only read
	write, err := file.writers.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin to write: %w", err)
	}
	if _, err := copyTables(ctx, tables, read, write, sqliteDialect()); err != nil {
		return errors.Join(err, write.Rollback())
	}
	return write.Commit()
}

// Import copies a store of SQLite, which nobody uses meanwhile, into the empty database of a server, in one transaction. It returns how many rows that were. The
// file stays as it is.
func Import(ctx context.Context, cfg Config, path string) (rows int, err error) {
	d, err := cfg.Server.dialect()
	if err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".import-")
	if err != nil {
		return 0, fmt.Errorf("make room for a copy of the store: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	copied := filepath.Join(tmp, "store.db")
	if err := Snapshot(ctx, path, copied); err != nil {
		return 0, err
	}
	for _, c := range []Config{{Path: copied, NoSync: true}, cfg} { // an older store is brought up to date in the copy
		if _, err := Migrate(ctx, c); err != nil {
			return 0, err
		}
	}
	from, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: copied}).EscapedPath()}).String())
	if err != nil {
		return 0, fmt.Errorf("read the store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	tables, err := tablesOf(ctx, from)
	if err != nil {
		return 0, err
	}
	to, err := cfg.Server.open(ctx, forMigration, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	read, err := from.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("begin to read: %w", err)
	}
	defer read.Rollback() //nolint:errcheck // it only read
	write, err := to.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("begin to write: %w", err)
	}
	if err := mustBeEmpty(ctx, tables, write); err != nil {
		return 0, errors.Join(err, write.Rollback())
	}
	if rows, err = copyTables(ctx, tables, read, write, d); err != nil {
		return 0, errors.Join(err, write.Rollback())
	}
	return rows, write.Commit()
}

// tablesOf reads from a store of SQLite which tables there are: they are the same in every database.
func tablesOf(ctx context.Context, db *sql.DB) (all []table, err error) {
	run := &pooled{dialect: sqliteDialect(), db: db}
	err = list(ctx, run, func(rows *sql.Rows) error {
		var name, column string
		err := rows.Scan(&name, &column)
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, table{name: name})
		}
		last := &all[len(all)-1]
		last.columns = append(last.columns, column)
		return err
	}, `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version' ORDER BY m.name, c.cid`)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return all, nil
}

func mustBeEmpty(ctx context.Context, tables []table, tx *sql.Tx) error {
	for _, t := range tables {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+t.name).Scan(&n); err != nil {
			return fmt.Errorf("look whether %s is empty: %w", t.name, err)
		}
		if n > 0 {
			return trove.Errorf(trove.KindConflict, "The database of store.url is not empty: %d rows are in %s. A store is moved into an empty one only.", n, t.name)
		}
	}
	return nil
}

func copyTables(ctx context.Context, tables []table, from, to *sql.Tx, toDialect *dialect) (rows int, err error) {
	for _, t := range tables {
		n, err := copyTable(ctx, t, from, to, toDialect)
		if err != nil {
			return rows, fmt.Errorf("copy the table %s: %w", t.name, err)
		}
		rows += n
	}
	return rows, nil
}

func copyTable(ctx context.Context, t table, from, to *sql.Tx, toDialect *dialect) (n int, err error) {
	names := strings.Join(t.columns, ", ")
	insert, err := to.PrepareContext(ctx, toDialect.rebind(
		`INSERT INTO `+t.name+` (`+names+`) VALUES (?`+strings.Repeat(`,?`, len(t.columns)-1)+`)`))
	if err != nil {
		return 0, err //nolint:wrapcheck // the caller says what it was doing
	}
	defer insert.Close() //nolint:errcheck // the transaction ends it
	// A prepared statement: without one MariaDB returns numbers as text.
	query, err := from.PrepareContext(ctx, fmt.Sprintf(`SELECT %s FROM %s`, names, t.name))
	if err != nil {
		return 0, err //nolint:wrapcheck // the caller says what it was doing
	}
	defer query.Close() //nolint:errcheck // the transaction ends it
	rows, err := query.QueryContext(ctx)
	if err != nil {
		return 0, err //nolint:wrapcheck // the caller says what it was doing
	}
	defer rows.Close() //nolint:errcheck // Err says more
	values, dest := make([]any, len(t.columns)), make([]any, len(t.columns))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return n, err //nolint:wrapcheck // the caller says what it was doing
		}
		for i, v := range values {
			if text, ok := v.([]byte); ok {
				values[i] = string(text)
			}
		}
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			return n, err //nolint:wrapcheck // the caller says what it was doing
		}
		n++
	}
	return n, rows.Err()
}
