// Package sqlstore keeps the control plane's state in an SQL database. SQLite is built in; another database is a dialect and a folder of
// migrations, because every statement is one portable text: no RETURNING, no ON CONFLICT, no SKIP LOCKED, no JSON operators, no time of the database.
// Times are microseconds, ids text, JSON text.
//
// It implements store.Store and the repositories of identity/local and of the bus. A Store may be used from several goroutines. Statements are
// prepared once for each connection. With SQLite one connection writes, so a transaction must be short and must not wait for anything outside.
package sqlstore

import (
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

	dialect *dialect
	readers *sql.DB
	writers *writers
	commits commits
	quotas  map[string]int
	log     *slog.Logger
	took    *prometheus.HistogramVec
}

// Open opens the database, makes it if it is not there, and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("sqlstore: no path given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkDriver(); err != nil {
		return nil, err
	}
	d := sqliteDialect()
	write, read, err := openSQLite(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, write, cfg); err != nil {
		return nil, errors.Join(err, write.Close(), read.Close())
	}
	s := &Store{
		dialect: d, readers: read, writers: newWriters(d, write, 1), quotas: DefaultQuotas(), log: cfg.Log,
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trove_store_transaction_seconds", Help: "Time that write transactions took, waiting for the connection included.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9),
		}, []string{"outcome"}),
	}
	maps.Copy(s.quotas, cfg.Quotas)
	s.reader = reader{run: &pooled{dialect: d, db: read}, quotas: s.quotas, cache: newInstanceCache()}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.took); err != nil {
			return nil, errors.Join(fmt.Errorf("register the store's metrics: %w", err), s.Close())
		}
	}
	return s, nil
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
	return errors.Join(s.readers.Close(), s.writers.db.Close())
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
