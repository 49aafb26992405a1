package fullvolume_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/internal/clock"
)

var mariaDB = &product{
	name:    mariadb.Manager,
	engine:  func() engine.Engine { return mariadb.New(slog.New(slog.DiscardHandler), clock.System{}) },
	address: "127.61.8.1",
	open:    openMariaDB,
	schema:  []string{"CREATE TABLE kept (id BIGINT PRIMARY KEY, payload LONGTEXT NOT NULL, digest CHAR(32) NOT NULL) ENGINE=InnoDB"},
	insert:  "INSERT INTO kept VALUES (?, ?, ?)",
	all:     "SELECT id, MD5(payload) = digest FROM kept",
	check: func(t *testing.T, db *sql.DB) {
		t.Helper()
		var table, op, kind, text string
		if err := db.QueryRowContext(t.Context(), "CHECK TABLE kept EXTENDED").Scan(&table, &op, &kind, &text); err != nil || text != "OK" {
			t.Errorf("CHECK TABLE: %s %s, %v", kind, text, err)
		}
	},
	// The driver sets log_bin for nobody, so that there is no binary log to fill a volume with.
	fills: map[string]func(ctx context.Context, w *world) error{
		"data": fillRows, "beside": fillBeside, "undo": fillUndo, "temporary": fillTemporary,
	},
}

func openMariaDB(t *testing.T, address string) *sql.DB {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		t.Fatalf("the server's programs are missing; install Debian's mariadb-server-core: %v", err)
	}
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName, c.Net, c.Addr = user, password.Reveal(), "shop", "tcp", net.JoinHostPort(address, "3306")
	c.TLS = &tls.Config{InsecureSkipVerify: true} // self-signed
	c.Logger = &mysql.NopLogger{}
	c.Timeout = 5 * time.Second
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	return sql.OpenDB(connector)
}

// fillUndo is one transaction that writes until it is refused, and is never committed: its rows may not be there afterwards.
func fillUndo(ctx context.Context, w *world) error {
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
		if _, err := tx.ExecContext(ctx, "UPDATE kept SET payload = REVERSE(payload) WHERE id = ?", id); err != nil {
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

// fillTemporary fills the volume with temporary tables, on disk and in the temporary tablespace.
func fillTemporary(ctx context.Context, w *world) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	text, _ := payload(256 << 10)
	for _, s := range []string{"CREATE TEMPORARY TABLE a (payload LONGTEXT) ENGINE=InnoDB", "CREATE TEMPORARY TABLE b (payload LONGTEXT) ENGINE=Aria"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	for n := 0; ctx.Err() == nil; n++ {
		into := []string{"INSERT INTO a VALUES (?)", "INSERT INTO b VALUES (?)"}[n%2]
		if _, err := conn.ExecContext(ctx, into, text); err != nil {
			return err
		}
		if n%32 == 0 {
			if err := w.commit(ctx, 4<<10); err != nil {
				return err
			}
		}
	}
	return nil
}
