// Package sqlstore keeps the control plane's state in an SQL database: SQLite, which is built in, PostgreSQL or MariaDB. A database is a dialect and a folder
// of migrations, because every statement is one portable text: no RETURNING, no ON CONFLICT, no SKIP LOCKED, no JSON operators, no time of the database.
// Times are microseconds, ids text, JSON text. A parameter has its type from the column that it meets; beside a literal alone (0 = ?) PostgreSQL takes it for
// a small number.
//
// It implements store.Store and the repositories of identity/local and of the bus. A Store may be used from several goroutines, and a server's database by
// several processes. Statements are prepared once for each connection. With SQLite one connection writes, so a transaction must be short and must not wait
// for anything outside. With a server transactions are READ COMMITTED: another one may commit between two statements. What a transaction decides must be
// decided by the statement that writes it (a compare-and-swap, a conditional update, a row that both would insert); see docs/drivers/store-postgresql.md.
package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/store"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Tx         = (*tx)(nil)
	_ local.Repository = (*Store)(nil)
)

// Config says where the state is.
type Config struct {
	// Path is the file of the SQLite database; it and its folder are made with rights for the owner only.
	Path string
	// Server is the database server that keeps the state instead; nil: SQLite does.
	Server *Server
	// NoSync leaves out the wait for the disk: for tests, a power cut may lose the last transactions.
	NoSync bool
	// Quotas overrides limits of projects that have none of their own; resources that are not named keep DefaultQuotas'.
	Quotas  map[string]int
	Log     *slog.Logger          // nil: nothing is logged
	Metrics prometheus.Registerer // nil: no metrics
}

// DefaultQuotas returns the limits that hold where nothing else is set; -1 is unlimited.
func DefaultQuotas() map[string]int {
	return map[string]int{trove.QuotaInstances: 10, trove.QuotaRAM: -1, trove.QuotaVolumes: 40, trove.QuotaBackups: 50}
}

// Store is an open database.
type Store struct {
	reader

	dialect  *dialect
	readers  *sql.DB
	writers  *writers
	commits  commits
	quotas   map[string]int
	patience time.Duration
	log      *slog.Logger
	took     *prometheus.HistogramVec
}

func (c Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// Open opens the database, makes it if it is not there (SQLite), and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg.Log = cfg.log()
	cache := newInstanceCache()
	d, write, read, err := openPools(ctx, cfg, cache)
	if err != nil {
		return nil, err
	}
	conns, patience := 1, time.Duration(0)
	if cfg.Server != nil {
		conns, patience = cfg.Server.conns(), cmp.Or(cfg.Server.Patience, 5*time.Second)
	}
	s := &Store{
		dialect: d, readers: read, writers: newWriters(d, write, conns), quotas: DefaultQuotas(), log: cfg.Log, patience: patience,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trove_store_transaction_seconds", Help: "Time that write transactions took, waiting for the connection included.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9),
		}, []string{"outcome"}),
	}
	maps.Copy(s.quotas, cfg.Quotas)
	s.reader = reader{run: &pooled{dialect: d, db: read, patience: patience}, quotas: s.quotas, cache: cache}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.took); err != nil {
			return nil, errors.Join(fmt.Errorf("register the store's metrics: %w", err), s.Close())
		}
	}
	return s, nil
}

// openPools opens the connections that write and those that read, and migrates.
func openPools(ctx context.Context, cfg Config, cache *instanceCache) (d *dialect, write, read *sql.DB, err error) {
	if cfg.Server == nil {
		if cfg.Path == "" {
			return nil, nil, nil, errors.New("sqlstore: no path given")
		}
		if err := checkDriver(); err != nil {
			return nil, nil, nil, err
		}
		d = sqliteDialect()
		if write, read, err = openSQLite(ctx, cfg); err != nil {
			return nil, nil, nil, err
		}
		unlock, err := lockSQLite(cfg.Path)
		if err == nil {
			defer unlock()
			_, err = d.migrate(ctx, write, cfg.Log)
		}
		if err != nil {
			return nil, nil, nil, errors.Join(err, write.Close(), read.Close())
		}
		return d, write, read, nil
	}
	if d, err = cfg.Server.dialect(); err != nil {
		return nil, nil, nil, err
	}
	if _, err := Migrate(ctx, cfg); err != nil {
		return nil, nil, nil, err
	}
	if write, err = cfg.Server.open(ctx, forWriting, nil); err != nil {
		return nil, nil, nil, err
	}
	if read, err = cfg.Server.open(ctx, forReading, cache.forget); err != nil {
		return nil, nil, nil, errors.Join(err, write.Close())
	}
	return d, write, read, nil
}

// Ping returns nil if the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.run.row(ctx, []any{&one}, `SELECT 1`); err != nil {
		return fmt.Errorf("ping the store: %w", err)
	}
	return nil
}

// Close waits for running transactions and closes the database. It may be called twice.
func (s *Store) Close() error {
	s.writers.close()
	err := errors.Join(s.readers.Close(), s.writers.db.Close())
	if err != nil && !s.dialect.inside { // a server that went away is told no goodbye; nothing is lost with a connection
		s.log.Debug("connections to the store's server were not closed properly", "err", err)
		return nil
	}
	return err
}

// micros returns a time as the database keeps it.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fromMicros returns a time that the database kept.
func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
