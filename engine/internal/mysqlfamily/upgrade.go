package mysqlfamily

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
)

var _ engine.Upgrader = (*Engine)(nil)

// versionFile has the version of the server that was last made ready on the data. It is the agent's, and not the server's own note in the data directory:
// that is written by mariadb-upgrade and not by a start.
func (p Place) versionFile() string { return filepath.Join(p.stateDir(), "version") }

// upgradeLog is where the product's program for upgrades writes to; its end is the evidence when it fails.
func (p Place) upgradeLog() string { return filepath.Join(p.stateDir(), "upgrade.log") }

// versionPattern finds the version in what a server's program says of itself: "mariadbd  Ver 10.11.14-MariaDB-…", "mysqld  Ver 9.7.0 for Linux …".
var versionPattern = regexp.MustCompile(`\bVer (\d+\.\d+\.\d+)`)

// programsVersion asks the program.
func (p Place) programsVersion(ctx context.Context) (string, error) {
	out, err := execx.Run(ctx, execx.Cmd{Path: p.Program(p.product.Server), Args: []string{"--no-defaults", "--version"}, Attr: p.AsEngine(), Dir: "/"})
	if err != nil {
		return "", fmt.Errorf("ask the server's program for its version: %w", err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask the server's program for its version: it said %q", bytes.TrimSpace(out))
	}
	return string(m[1]), nil
}

// dataVersion reads the note, or the server's own where an agent before this one left none.
func (p Place) dataVersion() (string, error) {
	for _, path := range []string{p.versionFile(), filepath.Join(p.DataDir(), "mariadb_upgrade_info"), filepath.Join(p.DataDir(), "mysql_upgrade_info")} {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the version of the data: %w", err)
		}
		version, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-")
		return version, nil
	}
	return "", nil
}

// noteVersion writes down which server runs on the data.
func (p Place) noteVersion(ctx context.Context, db *sql.Conn) error {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	version, _, _ = strings.Cut(version, "-")
	if data, err := os.ReadFile(p.versionFile()); err == nil && strings.TrimSpace(string(data)) == version {
		return nil
	}
	return atomicfile.Write(p.versionFile(), []byte(version+"\n"), 0o600)
}

// Versions returns the version of the program, and of the server that was last made ready on the data.
func (e *Engine) Versions(ctx context.Context, l engine.Layout) (programs, data string, err error) {
	p := e.Place(l)
	if programs, err = p.programsVersion(ctx); err != nil {
		return "", "", err
	}
	data, err = p.dataVersion()
	return programs, data, err
}

// A check of the tables has to end before the agent's answer is waited for no longer.
const (
	checkTimeout = 15 * time.Second
	checkedAtOne = 100 // tables of one statement
	namedTables  = 20  // of one finding
)

// CheckUpgrade asks for what mariadb-upgrade does not mend: prepared transactions that the new server would have to know, a shutdown that leaves work in the
// redo log, tables that are damaged. What it mends is worth knowing, because it takes time.
func (e *Engine) CheckUpgrade(ctx context.Context, l engine.Layout, version string) ([]engine.Finding, error) {
	var found []engine.Finding
	note := func(blocks bool, format string, args ...any) {
		found = append(found, engine.Finding{Blocks: blocks, Sentence: fmt.Sprintf(format, args...)})
	}
	err := e.Place(l).With(ctx, func(db *sql.Conn) error {
		var shutdown, prepared int
		if err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.innodb_fast_shutdown").Scan(&shutdown); err != nil {
			return err
		}
		if shutdown > 1 {
			note(true, "The parameter innodb_fast_shutdown is %d, with which the server does not end cleanly. Set it to 1.", shutdown)
		}
		if err := Texts(ctx, db, 4, func([]string) { prepared++ }, "XA RECOVER"); err != nil {
			return err
		}
		if prepared > 0 {
			note(true, "%d prepared transactions wait for their end (XA RECOVER lists them). Commit or roll back each of them.", prepared)
		}
		old, err := oldTemporals(ctx, db)
		if err != nil {
			return err
		}
		if len(old) > 0 {
			note(false, "Tables with columns in the temporal format of MariaDB 5.3 are read as they are, and are rebuilt when they are altered next: %s.", listed(old))
		}
		damaged, rebuilt, err := checkTables(ctx, db)
		if err != nil {
			return err
		}
		if len(damaged) > 0 {
			note(true, "Tables are damaged and have to be repaired or dropped: %s.", listed(damaged))
		}
		if len(rebuilt) > 0 {
			note(false, "Tables are rebuilt by the change to %s, which takes time and space: %s.", version, listed(rebuilt))
		}
		return nil
	})
	return found, err
}

func listed(names []string) string {
	if more := len(names) - namedTables; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namedTables], ", "), more)
	}
	return strings.Join(names, ", ")
}

const tenantTables = ` t.TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'sys') `

func oldTemporals(ctx context.Context, db *sql.Conn) ([]string, error) {
	var names []string
	err := Texts(ctx, db, 1, func(v []string) { names = append(names, v[0]) },
		"SELECT DISTINCT CONCAT(t.TABLE_SCHEMA, '.', t.TABLE_NAME) FROM information_schema.COLUMNS t WHERE"+tenantTables+"AND t.COLUMN_TYPE LIKE '%mariadb-5.3%'")
	return names, err
}

// checkTables lets the server say which tables mariadb-upgrade will rebuild, and which it cannot. It stops when its time has passed: the upgrade itself
// looks at every table again.
func checkTables(ctx context.Context, db *sql.Conn) (damaged, rebuilt []string, err error) {
	var tables []string
	err = Texts(ctx, db, 2, func(v []string) { tables = append(tables, quote(v[0])+"."+quote(v[1])) },
		"SELECT t.TABLE_SCHEMA, t.TABLE_NAME FROM information_schema.TABLES t WHERE"+tenantTables+"AND t.TABLE_TYPE = 'BASE TABLE'")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for len(tables) > 0 && err == nil {
		n := min(len(tables), checkedAtOne)
		err = Texts(ctx, db, 4, func(v []string) {
			name, kind, text := v[0], v[2], v[3]
			switch {
			case kind == "status" || strings.EqualFold(kind, "note"):
			case strings.Contains(strings.ToLower(text), "upgrade") || strings.Contains(text, "REPAIR") || strings.Contains(text, "ALTER TABLE"):
				rebuilt = append(rebuilt, name)
			case strings.EqualFold(kind, "error"):
				damaged = append(damaged, name)
			}
		}, "CHECK TABLE "+strings.Join(tables[:n], ", ")+" FOR UPGRADE")
		tables = tables[n:]
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return damaged, rebuilt, err
}

// Upgrade starts the new server without a network and runs mariadb-upgrade on it (MySQL's server does that itself when it starts): nobody sees the data before
// it is whole. The programs of the old version are not needed, and MariaDB's redo log has had one format since 10.8, so that a server that did not end cleanly is
// recovered by the new one.
func (e *Engine) Upgrade(ctx context.Context, l engine.Layout, _ string, progress engine.Progress) error {
	p := e.Place(l)
	programs, data, err := e.Versions(ctx, l)
	if err != nil {
		return err
	}
	switch order := trove.CompareVersions(programs, data); {
	case data != "" && order < 0:
		return trove.Errorf(trove.KindBadRequest, "The data was used with version %s, and %s is older: it is not taken over.", data, programs)
	case data != "" && order == 0:
		return nil
	}
	progress("starting version "+programs+" without a network", 10)
	return e.alone(ctx, p, func(ctx context.Context) error {
		progress("mending the system tables", 30)
		if err := p.runUpgrade(ctx); err != nil {
			return err
		}
		return p.With(ctx, func(db *sql.Conn) error { return p.noteVersion(ctx, db) })
	})
}

// FinishUpgrade runs mariadb-upgrade where Upgrade did not: after a change of image within one version. Collations are the server's own and never those of
// the C library or ICU; a table whose collation has changed is among those that mariadb-upgrade rebuilds.
func (e *Engine) FinishUpgrade(ctx context.Context, l engine.Layout, progress engine.Progress) ([]string, error) {
	p := e.Place(l)
	if p.product.UpgradeProgram == "" {
		return nil, nil // the server has done it when it started
	}
	var version string
	err := p.With(ctx, func(db *sql.Conn) error {
		return db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version)
	})
	if err != nil {
		return nil, err
	}
	version, _, _ = strings.Cut(version, "-")
	for _, name := range []string{"mariadb_upgrade_info", "mysql_upgrade_info"} {
		if data, err := os.ReadFile(filepath.Join(p.DataDir(), name)); err == nil && strings.HasPrefix(string(data), version) {
			return nil, nil
		}
	}
	progress("mending the system tables", 10)
	if err := p.runUpgrade(ctx); err != nil {
		return nil, err
	}
	return []string{"The system tables are those of version " + version + "."}, nil
}

// runUpgrade runs mariadb-upgrade on the server that runs. It notes itself what it has done, and does nothing the second time.
func (p Place) runUpgrade(ctx context.Context) error {
	if p.product.UpgradeProgram == "" {
		return nil
	}
	log, err := os.OpenFile(p.upgradeLog(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make the log of mariadb-upgrade: %w", err)
	}
	defer func() { _ = log.Close() }()
	_, err = execx.Run(ctx, execx.Cmd{
		Path: p.Program(p.product.UpgradeProgram),
		Args: []string{"--no-defaults", "--user=" + rootName, "--socket=" + p.Socket(), "--protocol=socket", "--skip-ssl", "--skip-write-binlog"},
		Env:  []string{"PATH=" + p.Program("usr/bin") + ":/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent"}, Dir: "/", Stdout: log, Stderr: log,
	})
	if err != nil {
		said, _ := os.ReadFile(p.upgradeLog())
		return trove.Wrap(trove.KindInternal, err, "%s failed. It said at its end:\n%s", filepath.Base(p.product.UpgradeProgram), lastBytes(said))
	}
	return nil
}

// alone runs do beside a server that only the agent can reach, and stops it cleanly.
func (e *Engine) alone(ctx context.Context, p Place, do func(ctx context.Context) error) error {
	if err := e.endStray(ctx, p); err != nil {
		return err
	}
	c, err := e.Command(p.Layout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, _ := os.ReadFile(p.errorLog()) // for evidence only
	var said bytes.Buffer
	cmd := execx.Command(ctx, execx.Cmd{Path: c.Path, Args: append(c.Args, "--skip-networking", "--innodb-fast-shutdown=1"), Env: c.Env, Dir: c.Dir, Attr: p.AsEngine()})
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server without a network: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := e.awaitAlone(ctx, p, ended); err != nil {
		cancel()
		err = errors.Join(err, <-ended)
		log, _ := os.ReadFile(p.errorLog())
		log = log[min(len(log), len(before)):]
		return trove.Wrap(trove.KindInternal, err, "The new version did not start on the data. Its log ends with:\n%s", lastBytes(append(said.Bytes(), log...)))
	}
	doErr := do(ctx)
	stopErr := cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(doErr, stopErr, <-ended)
}

// endStray ends a server that an Upgrade has left whose agent was killed.
func (e *Engine) endStray(ctx context.Context, p Place) error {
	if e.Ping(ctx, p.Layout) != nil {
		return nil //nolint:nilerr // there is none
	}
	e.log.InfoContext(ctx, "server of an upgrade that was cut off was ended")
	if err := p.With(ctx, func(db *sql.Conn) error { return Exec(ctx, db, "SHUTDOWN") }); err != nil {
		return fmt.Errorf("end the server of an earlier upgrade: %w", err)
	}
	for {
		there, err := guestfiles.Exists(p.PIDFile()) // the last thing that it removes
		if err != nil || !there {
			return err
		}
		if err := clock.Sleep(ctx, 10*initialisePoll); err != nil {
			return fmt.Errorf("wait for the server of an earlier upgrade to end: %w", err)
		}
	}
}

// awaitAlone waits until the server answers. A value that is received from ended is put back.
func (e *Engine) awaitAlone(ctx context.Context, p Place, ended chan error) error {
	for e.Ping(ctx, p.Layout) != nil {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended before it was ready: %w", err)
		default:
		}
		if err := clock.Sleep(ctx, 10*initialisePoll); err != nil {
			return fmt.Errorf("wait for it to answer: %w", err)
		}
	}
	return nil
}
