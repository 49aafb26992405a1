package troveimport

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver of files

	trove "github.com/trove-dbaas/trove"
)

// Source is the database of a Python Trove. It is only read.
type Source struct {
	db   *sql.DB
	lite bool
	dump *dump // instead of a database
}

// Open opens the database that a URL names: mysql://user@host:3306/trove (mysql+pymysql and mariadb are the same), sqlite:///path of a file, or file:///path of
// a dump. The password is not part of the URL: that would be on the command line.
func Open(ctx context.Context, from string, password trove.Secret) (*Source, error) {
	u, err := url.Parse(from)
	if err != nil {
		return nil, trove.Errorf(trove.KindBadRequest, "The source is no URL such as mysql://user@host/trove or sqlite:///file.") // the error's text would have it whole
	}
	scheme, _, _ := strings.Cut(u.Scheme, "+")
	if _, given := u.User.Password(); given {
		return nil, trove.Errorf(trove.KindBadRequest, "The URL has a password in it, which others can see on a command line: leave it out and give a file.")
	}
	var s *Source
	switch scheme {
	case "sqlite":
		path := strings.TrimPrefix(u.Path, "/") // SQLAlchemy has four slashes before an absolute path; people write three
		s, err = openFile(path, u.Path)
	case "file":
		return openDump(u.Path)
	case "mysql", "mariadb":
		s, err = openServer(u, password)
	default:
		return nil, trove.Errorf(trove.KindBadRequest, "A source is mysql://..., sqlite://... or file://..., not %q.", u.Scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := s.db.PingContext(ctx); err != nil {
		_ = s.db.Close()
		return nil, fmt.Errorf("open the source: %w", err)
	}
	return s, nil
}

func openFile(paths ...string) (*Source, error) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
			if err != nil {
				return nil, fmt.Errorf("open the source: %w", err)
			}
			return &Source{db: db, lite: true}, nil
		}
	}
	return nil, trove.Errorf(trove.KindNotFound, "There is no file %s.", paths[0])
}

func openServer(u *url.URL, password trove.Secret) (*Source, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = u.User.Username(), password.Reveal(), "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	if u.Port() == "" {
		c.Addr = u.Hostname() + ":3306"
	}
	if socket := u.Query().Get("unix_socket"); socket != "" {
		c.Net, c.Addr = "unix", socket
	}
	c.TLSConfig = "preferred" // as the clients of a Python Trove do: where the server has it
	c.Timeout, c.ReadTimeout = 10*time.Second, 5*time.Minute
	c.Params = map[string]string{"time_zone": "'+00:00'"}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	return &Source{db: sql.OpenDB(connector)}, nil
}

// Close closes the database.
func (s *Source) Close() error {
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}

// record is a row by the names of its columns; what is NULL is absent. Releases differ in their columns, so none is asked for by name.
type record map[string]string

// rows reads a whole table, nothing of one that is not there.
func (s *Source) rows(ctx context.Context, table string) ([]record, error) {
	if s.dump != nil {
		return s.dump.rows[table], nil
	}
	there, err := s.has(ctx, table)
	if err != nil || !there {
		return nil, err
	}
	found, err := s.db.QueryContext(ctx, "SELECT * FROM "+table) //nolint:gosec // the tables are named in this package
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	defer func() { _ = found.Close() }()
	columns, err := found.Columns()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	var all []record
	values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for n := range values {
		dest[n] = &values[n]
	}
	for found.Next() {
		if err := found.Scan(dest...); err != nil {
			return nil, fmt.Errorf("read %s: %w", table, err)
		}
		r := record{}
		for n, v := range values {
			if v.Valid {
				r[columns[n]] = v.String
			}
		}
		all = append(all, r)
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", table, err)
	}
	return all, nil
}

func (s *Source) has(ctx context.Context, table string) (bool, error) {
	query := "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
	if s.lite {
		query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
	}
	var n int
	if err := s.db.QueryRowContext(ctx, query, table).Scan(&n); err != nil {
		return false, fmt.Errorf("look for table %s: %w", table, err)
	}
	return n > 0, nil
}

// flag reads a boolean column.
func (r record) flag(column string) bool {
	switch strings.ToLower(r[column]) {
	case "1", "true", "\x01":
		return true
	}
	return false
}

// layouts are how times come: of MySQL, and of SQLite as text and as its driver prints them.
var layouts = []string{"2006-01-02 15:04:05.999999", time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05 -0700 MST"}

// time reads a time, which is in UTC; the zero time if there is none.
func (r record) time(column string) time.Time {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, r[column]); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
