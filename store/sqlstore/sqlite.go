package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

func sqliteDialect() *dialect {
	return &dialect{
		name: "sqlite", goose: goose.DialectSQLite3, begin: "BEGIN IMMEDIATE", inside: true,
		conflict: sqliteConflict, duplicate: func(error) string { return "" }, full: sqliteFull, lost: notThat, slow: notThat, unfit: notThat,
		now: `SELECT CAST(unixepoch('subsec')*1000000 AS INTEGER)`,
		textColumns: `SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' AND (c.type LIKE '%CHAR%' OR c.type LIKE '%TEXT%') ORDER BY m.name, c.cid`,
	}
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

// lockSQLite lets one process migrate at a time: goose has no lock of its own for SQLite.
func lockSQLite(path string) (unlock func(), err error) {
	lock, err := os.OpenFile(path+".migrate", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store for its migration: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock the store for its migration: %w", err)
	}
	return func() { lock.Close() }, nil
}
