package postgresql_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
	"github.com/trove-dbaas/trove/internal/clock"
)

// engineID is the account that the servers of these tests run as: one that owns nothing.
const engineID = 65534

// addresses hands out loopback addresses: each server of a test has the product's port for itself.
var addresses atomic.Uint32

func newEngine() *postgresql.Engine {
	return postgresql.New(slog.New(slog.DiscardHandler), clock.System{})
}

// layout makes the directories of a guest. They are not below t.TempDir, whose path is too long for a socket.
func layout(t testing.TB) engine.Layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the servers run as another account than the agent")
	}
	dir, err := os.MkdirTemp("", "pg") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pid := os.Getpid()
	l := engine.Layout{
		Data: dir + "/data", Runtime: dir + "/run", State: dir + "/state", UID: engineID, GID: engineID,
		Address: fmt.Sprintf("127.%d.%d.%d", 128+pid>>8&0x3f, pid&0xff, 1+addresses.Add(1)),
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, l.Data: 0o755, l.Runtime: 0o711, l.State: 0o700} {
		must(t, os.MkdirAll(path, perm))
		must(t, os.Chmod(path, perm))
	}
	return l
}

// template is a volume with a data directory, made once for all tests.
var template = struct {
	once sync.Once
	dir  string
}{}

func TestMain(m *testing.M) {
	m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
}

// fill copies the template's data directory: Initialise takes a second and a half.
func fill(t testing.TB, l engine.Layout) {
	t.Helper()
	template.once.Do(func() {
		made := layout(t)
		must(t, newEngine().Initialise(t.Context(), made))
		dir, err := os.MkdirTemp("", "pgt") //nolint:usetesting // it outlives the test
		must(t, err)
		template.dir = dir
		must(t, os.Rename(made.Data, dir+"/data"))
	})
	if template.dir == "" {
		t.Fatal("the template of the data directory was not made")
	}
	copyTree(t, template.dir+"/data", l.Data)
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "cp", "--archive", "--sparse=always", from+"/.", to).CombinedOutput()
	if err != nil {
		t.Fatalf("copy the data directory: %v: %s", err, out)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect opens a connection as a tenant's client does: over TCP; c nil: without TLS.
func connect(ctx context.Context, l engine.Layout, user string, password trove.Secret, database string, c *tls.Config) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("sslmode=disable passfile=/dev/null connect_timeout=10")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.User, config.Password, config.Database = l.Address, 5432, user, password.Reveal(), database
	if database == "" {
		config.Database = "postgres"
	}
	config.TLSConfig, config.Fallbacks = c, nil
	return pgconn.ConnectConfig(ctx, config)
}

var believing = &tls.Config{InsecureSkipVerify: true} // self-signed

func client(t testing.TB, l engine.Layout, user string, password trove.Secret, database string) *pgconn.PgConn {
	t.Helper()
	c, err := connect(t.Context(), l, user, password, database, believing)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(ctx)
	})
	return c
}

// ask runs a statement and returns what it gave, a row a line and columns with | between.
func ask(t testing.TB, c *pgconn.PgConn, statement string) (string, error) {
	t.Helper()
	results, err := c.Exec(t.Context(), statement).ReadAll()
	var lines []string
	for _, r := range results {
		for _, row := range r.Rows {
			var cells []string
			for _, v := range row {
				cells = append(cells, string(v))
			}
			lines = append(lines, strings.Join(cells, "|"))
		}
	}
	return strings.Join(lines, "\n"), err
}

func wantAnswer(t testing.TB, c *pgconn.PgConn, statement, want string) {
	t.Helper()
	if got, err := ask(t, c, statement); err != nil || got != want {
		t.Errorf("%s: %q, %v, want %q", statement, got, err, want)
	}
}

// wantRefused runs statements that the server must refuse for want of a right.
func wantRefused(t testing.TB, c *pgconn.PgConn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := ask(t, c, s)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.Code != "42501" && e.Code != "0A000" { // 0A000: ALTER SYSTEM, since 17
			t.Errorf("%s: %v, want it refused for want of a right", s, err)
		}
	}
}

func shown(ctx context.Context, l engine.Layout) (seen []byte, err error) {
	_, err = connect(ctx, l, "nobody", "", "", &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		seen = s.PeerCertificates[0].Raw
		return nil
	}})
	if seen != nil {
		return seen, nil
	}
	return nil, err
}

func setup(t testing.TB) enginetest.Setup {
	t.Helper()
	return enginetest.Setup{
		Engine: newEngine(), Layout: layout(t), Fill: fill,
		Login: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, database string) error {
			c, err := connect(ctx, l, user, password, database, believing)
			if err != nil {
				return err
			}
			err = c.Exec(ctx, "SELECT 1").Close()
			return errors.Join(err, c.Close(ctx))
		},
		Shown:    shown,
		Override: "default_statistics_target", Value: "123", Static: "max_locks_per_transaction", StaticValue: "100", LogsWritten: true,
		LiveTLS: true, RightsNeedDatabases: true,
		Set: func(ctx context.Context, l engine.Layout, password trove.Secret, name, value string) error {
			c, err := connect(ctx, l, "postgres", password, "", believing)
			if err != nil {
				return err
			}
			err = c.Exec(ctx, "ALTER ROLE postgres SET "+name+" = "+value).Close()
			return errors.Join(err, c.Close(ctx))
		},
		Changed: "77", ChangedShown: "77 for the user postgres", SetStays: true,
		Refused: map[string]string{
			"work_mem": "1", "timezone": `"Nowhere/Land"`, "max_connections": "0", "wal_level": `"nonsense"`, "no_such_parameter": "1", "autovacuum": "17",
			"shared_buffers": `"400GB"`, "superuser_reserved_connection": "3", "max_wal_senders": "100000", "datestyle": `"klingon"`,
		},
		Read: func(ctx context.Context, l engine.Layout, user string, password trove.Secret) (string, error) {
			c, err := connect(ctx, l, user, password, "", believing)
			if err != nil {
				return "", err
			}
			defer func() { _ = c.Close(ctx) }()
			r := c.ExecParams(ctx, "SHOW default_statistics_target", nil, nil, nil, nil).Read()
			if r.Err != nil {
				return "", r.Err
			}
			return string(r.Rows[0][0]), nil
		},
		Names: []string{strings.Repeat("a_", 27), strings.Repeat(`\`, 54), strings.Repeat(`"`, 54), `$user`, "User", "select", "${x}", "'; --", "q=1 host=x"},
		BadOverrides: map[string]string{
			"data_directory": `"/tmp/x"`, "DATA_DIRECTORY": `"/tmp/x"`, "hba_file": `"x"`, "shared_preload_libraries": `"x"`, "archive_command": `"id"`, "ssl": "false",
			"work_mem\nssl": "1", "work_mem": `{"a":1}`, "log_directory": `"/"`, "search_path": "\"a\\nfsync=off\"", "port": "5433", "": "1", "include": `"/etc/passwd"`,
			"plpgsql.x": "1", "trace_notify": "true", "debug_assertions": "true", "session_preload_libraries": `"x"`, "restore_command": `"id"`, "fsync": "false",
		},
	}
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Setup { return setup(t) })
}
