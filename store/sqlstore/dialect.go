package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// dialect is what differs between databases; the statements do not.
type dialect struct {
	name     string
	goose    goose.Dialect
	begin    string
	numbered bool // placeholders are $1, $2 instead of ?
	inside   bool // the database runs in this process: no statement can hang
	// conflict reports whether the transaction met another one and has to run again.
	conflict func(error) bool
	// full reports whether there was no space on the disk.
	full func(error) bool
}

func sqliteDialect() *dialect {
	return &dialect{name: "sqlite", goose: goose.DialectSQLite3, begin: "BEGIN IMMEDIATE", inside: true, conflict: sqliteConflict, full: sqliteFull}
}

func sqliteConflict(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	primary := e.Code() & 0xff // the upper bits are the extended code, such as BUSY_SNAPSHOT
	return primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_LOCKED
}

// sqliteFull also knows the error of a shared-memory file that cannot grow.
func sqliteFull(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE)
}

// rebind turns the placeholders of the portable text into the database's. No statement has a question mark in a literal.
func (d *dialect) rebind(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitAfterSeq(query, "?") {
		text, found := strings.CutSuffix(part, "?")
		b.WriteString(text)
		if found {
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
	}
	return b.String()
}

// statementContext returns the context that a statement runs under. With SQLite it is checked before and not handed on: each statement that can be
// cut off costs two goroutines, more than the statement itself, and one that is cut off rolls the whole transaction back unasked. What may wait
// there is BEGIN alone, for busy_timeout at most.
func (d *dialect) statementContext(ctx context.Context) (context.Context, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it was doing
	}
	if d.inside {
		return context.WithoutCancel(ctx), nil
	}
	return ctx, nil
}

func openSQLite(ctx context.Context, cfg Config) (write, read *sql.DB, err error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the store's folder: %w", err)
	}
	// Made here, because SQLite would make it readable for everybody; its -wal and -shm files take the rights of the database.
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("make the store's file: %w", err)
	}
	f.Close()
	sync := "FULL"
	if cfg.NoSync {
		sync = "OFF"
	}
	// busy_timeout first: switching to WAL may already have to wait for another process.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(" + sync + ")", "cache_size(-16000)", "temp_store(MEMORY)",
	}}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: cfg.Path}).EscapedPath(), RawQuery: q.Encode()}).String()
	write, err = sql.Open("sqlite", dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("open the store %s: %w", cfg.Path, err)
	}
	write.SetMaxOpenConns(1)
	if err := write.PingContext(ctx); err != nil { // before the read pool: this is what turns WAL on
		return nil, nil, errors.Join(fmt.Errorf("open the store %s: %w", cfg.Path, err), write.Close())
	}
	q["_pragma"] = append(q["_pragma"], "query_only(1)")
	dsn = (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: cfg.Path}).EscapedPath(), RawQuery: q.Encode()}).String()
	read, err = sql.Open("sqlite", dsn)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the store %s for reading: %w", cfg.Path, err), write.Close())
	}
	n := max(4, 2*runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(n)
	read.SetMaxIdleConns(n)
	return write, read, nil
}

// migrate brings the schema up to date, one process at a time: goose has no lock of its own for SQLite.
func (d *dialect) migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	lock, err := os.OpenFile(cfg.Path+".migrate", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the store for its migration: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the store for its migration: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return fmt.Errorf("find the migrations for %s: %w", d.name, err)
	}
	p, err := goose.NewProvider(d.goose, db, files, goose.WithSlog(cfg.Log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations for %s: %w", d.name, err)
	}
	// A newer program may have been here; its schema is not ours to write into.
	if err := newer(ctx, p); err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the store: %w", err)
	}
	return nil
}

func newer(ctx context.Context, p *goose.Provider) error {
	at, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the version of the store's schema: %w", err)
	}
	if at > known {
		return fmt.Errorf("the store has schema %d, this program knows %d: it is older than the one that wrote the store", at, known)
	}
	return nil
}
