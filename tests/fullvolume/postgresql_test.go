package fullvolume_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/postgresql"
	"github.com/trove-dbaas/trove/internal/clock"
)

var postgreSQL = &product{
	name:    postgresql.Manager,
	engine:  func() engine.Engine { return postgresql.New(slog.New(slog.DiscardHandler), clock.System{}) },
	address: "127.61.8.2",
	open:    openPostgreSQL,
	schema: []string{
		"CREATE TABLE kept (id BIGINT PRIMARY KEY, payload TEXT NOT NULL, digest CHAR(32) NOT NULL)",
		"ALTER TABLE kept ALTER COLUMN payload SET STORAGE EXTERNAL",
	},
	insert: "INSERT INTO kept VALUES ($1, $2, $3)",
	all:    "SELECT id, md5(payload) = digest FROM kept",
	check: func(t *testing.T, db *sql.DB) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), "REINDEX TABLE kept"); err != nil { // it reads every row, and no key may be there twice
			t.Errorf("REINDEX: %v", err)
		}
	},
	fills: map[string]func(ctx context.Context, w *world) error{
		"data": fillRows, "beside": fillBeside, "wal": fillWAL, "temporary": fillTemporaryFiles,
	},
}

func openPostgreSQL(t *testing.T, address string) *sql.DB {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); err != nil || len(found) == 0 {
		t.Fatalf("the server's programs are missing; install Debian's postgresql: %v", err)
	}
	c, err := pgx.ParseConfig("sslmode=disable passfile=/dev/null connect_timeout=5 dbname=shop user=" + user)
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.Port, c.Password = address, 5432, password.Reveal()
	c.TLSConfig, c.Fallbacks = &tls.Config{InsecureSkipVerify: true}, nil // self-signed
	return stdlib.OpenDB(*c)
}

// fillWAL is one transaction that writes the same rows again and again and is never committed: its old versions and the log of them take the space, also of the
// directory of the log itself, where want of it ends the server.
func fillWAL(ctx context.Context, w *world) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	text, sum := payload(256 << 10)
	for id := int64(1 << 40); ctx.Err() == nil; id++ {
		if _, err := tx.ExecContext(ctx, w.p.insert, id, text, sum); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE kept SET payload = reverse(payload) WHERE id = $1", id); err != nil {
			return err
		}
		if id%16 == 0 {
			if err := w.commit(ctx, 4<<10); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillTemporaryFiles fills the volume with a temporary table, which is in no log, while rows are committed.
func fillTemporaryFiles(ctx context.Context, w *world) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "CREATE TEMPORARY TABLE a (payload TEXT STORAGE EXTERNAL)"); err != nil {
		// 15 has no such clause.
		for _, s := range []string{"CREATE TEMPORARY TABLE a (payload TEXT)", "ALTER TABLE a ALTER COLUMN payload SET STORAGE EXTERNAL"} {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				return err
			}
		}
	}
	text, _ := payload(256 << 10)
	for n := 0; ctx.Err() == nil; n++ {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := conn.ExecContext(one, "INSERT INTO a VALUES ($1)", text)
		cancel()
		if err == nil && n%32 == 0 {
			err = w.commit(ctx, 4<<10)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
