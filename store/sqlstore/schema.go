package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Schema says which version the database's schema has, 0 for one that is not there, and which one this program makes of it. It changes nothing.
func Schema(ctx context.Context, cfg Config) (at, known int64, err error) {
	d := sqliteDialect()
	if known, err = d.newest(); err != nil {
		return 0, 0, err
	}
	if _, err := os.Stat(cfg.Path); errors.Is(err, os.ErrNotExist) {
		return 0, known, nil
	}
	write, read, err := openSQLite(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, write.Close(), read.Close()) }()
	var tables int
	if err := read.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'goose_db_version'`).Scan(&tables); err != nil {
		return 0, 0, fmt.Errorf("read the version of the store's schema: %w", err)
	}
	if tables == 0 {
		return 0, known, nil
	}
	if err := read.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied = 1`).Scan(&at); err != nil {
		return 0, 0, fmt.Errorf("read the version of the store's schema: %w", err)
	}
	return at, known, nil
}

// newest returns the number of the last migration.
func (d *dialect) newest() (int64, error) {
	files, err := fs.Glob(migrations, "migrations/"+d.name+"/*.sql")
	if err != nil {
		return 0, fmt.Errorf("find the migrations for %s: %w", d.name, err)
	}
	var newest int64
	for _, f := range files {
		number, _, _ := strings.Cut(f[strings.LastIndexByte(f, '/')+1:], "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the number of migration %s: %w", f, err)
		}
		newest = max(newest, n)
	}
	return newest, nil
}
