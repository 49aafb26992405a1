package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/trove-dbaas/trove/internal/clock"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// Schema is the version of a store's tables.
type Schema struct {
	At    int64 // of the store
	Known int64 // the newest that this program knows
}

// migrationWait is how long a controller that starts waits for another one that migrates.
const migrationWait = 10 * time.Minute

func (d *dialect) provider(db *sql.DB, log *slog.Logger) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return nil, fmt.Errorf("find the migrations for %s: %w", d.name, err)
	}
	p, err := goose.NewProvider(d.goose, db, files, goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read the migrations for %s: %w", d.name, err)
	}
	return p, nil
}

// migrate brings the schema up to date; the caller has the lock. It returns the version that it found. An up-to-date schema is not written to, so that
// an account which may not change tables can open the store.
func (d *dialect) migrate(ctx context.Context, db *sql.DB, log *slog.Logger) (Schema, error) {
	p, err := d.provider(db, log)
	if err != nil {
		return Schema{}, err
	}
	found, err := schemaOf(ctx, p)
	if err != nil {
		return found, err
	}
	// A newer program may have been here; its schema is not ours to write into.
	if found.At > found.Known {
		return found, fmt.Errorf("the store has schema %d, this program knows %d: it is older than the one that wrote the store", found.At, found.Known)
	}
	if found.At == found.Known {
		return found, nil
	}
	if _, err := p.Up(ctx); err != nil {
		return found, fmt.Errorf("migrate the store: %w", err)
	}
	return found, nil
}

func schemaOf(ctx context.Context, p *goose.Provider) (s Schema, err error) {
	if s.At, s.Known, err = p.GetVersions(ctx); err != nil {
		return s, fmt.Errorf("read the version of the store's schema: %w", err)
	}
	return s, nil
}

// migrateServer migrates the database of a server under a lock that belongs to a session, so that of several controllers which start one does it. It may take
// as long as it takes: the connections have no time limits.
func (d *dialect) migrateServer(ctx context.Context, db *sql.DB, log *slog.Logger) (found Schema, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return found, fmt.Errorf("connect for the migration: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the lock goes with it
	wait, cancel := context.WithTimeout(ctx, migrationWait)
	defer cancel()
	for {
		var got sql.NullBool
		if err := conn.QueryRowContext(wait, lockStatements[d.name]).Scan(&got); err != nil {
			return found, fmt.Errorf("lock the store for its migration: %w", err)
		}
		if got.Bool {
			break
		}
		if err := clock.Sleep(wait, 100*time.Millisecond); err != nil {
			return found, fmt.Errorf("wait for another controller that migrates the store: %w", err)
		}
	}
	for attempt := 1; ; attempt++ {
		found, err = d.migrate(ctx, db, log)
		// On a Galera cluster the lock is one node's: a controller at another node may have made the table first. Its work is looked at again.
		if err == nil || d.name != dialectMariaDB || found.At > found.Known || attempt == 5 {
			return found, err
		}
		if serr := clock.Sleep(ctx, time.Second); serr != nil {
			return found, errors.Join(err, serr)
		}
	}
}

// lockStatements try to take the lock. PostgreSQL's has the number that goose would use.
var lockStatements = map[string]string{
	dialectPostgreSQL: `SELECT pg_try_advisory_lock(4097083626)`,
	dialectMariaDB:    `SELECT GET_LOCK(CONCAT('trove.migrate.', MD5(DATABASE())), 0)`,
}

// Migrate brings the schema of a store up to date without opening it for work, and returns the version that it found.
func Migrate(ctx context.Context, cfg Config) (Schema, error) {
	db, d, unlock, err := openForMigration(ctx, cfg)
	if err != nil {
		return Schema{}, err
	}
	defer unlock()
	defer db.Close() //nolint:errcheck // nothing is waiting to be written
	if d.inside {
		return d.migrate(ctx, db, cfg.log())
	}
	return d.migrateServer(ctx, db, cfg.log())
}

// SchemaOf returns the version of a store's schema, and changes nothing but that a database without one gets the table of versions. A file that is not there is
// not made: its version is 0.
func SchemaOf(ctx context.Context, cfg Config) (Schema, error) {
	if cfg.Server == nil {
		if _, err := os.Stat(cfg.Path); errors.Is(err, os.ErrNotExist) {
			known, err := sqliteDialect().newest()
			return Schema{Known: known}, err
		}
	}
	db, d, unlock, err := openForMigration(ctx, cfg)
	if err != nil {
		return Schema{}, err
	}
	defer unlock()
	defer db.Close() //nolint:errcheck // nothing is waiting to be written
	p, err := d.provider(db, cfg.log())
	if err != nil {
		return Schema{}, err
	}
	return schemaOf(ctx, p)
}

func openForMigration(ctx context.Context, cfg Config) (db *sql.DB, d *dialect, unlock func(), err error) {
	if cfg.Server != nil {
		if d, err = cfg.Server.dialect(); err != nil {
			return nil, nil, nil, err
		}
		db, err = cfg.Server.open(ctx, forMigration, nil)
		return db, d, func() {}, err
	}
	write, read, err := openSQLite(ctx, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	_ = read.Close() // nothing was read
	if unlock, err = lockSQLite(cfg.Path); err != nil {
		return nil, nil, nil, errors.Join(err, write.Close())
	}
	return write, sqliteDialect(), unlock, nil
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
