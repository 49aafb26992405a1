package sqlstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// The databases that a server can be, as they are called in URLs and in folders of migrations.
const (
	dialectPostgreSQL = "postgresql"
	dialectMariaDB    = "mariadb"
)

// dialTimeout bounds the making of one connection.
const dialTimeout = 5 * time.Second

// Server is a database server that keeps the state of several controllers.
type Server struct {
	Driver   string   // "postgresql" or "mariadb"
	Hosts    []string // host:port, tried in this order until one accepts writes
	Socket   string   // instead of hosts: PostgreSQL's directory of sockets, MariaDB's socket
	User     string
	Database string
	// Password is asked for with each connection, so that it can be changed while the service runs; nil: there is none.
	Password func() (trove.Secret, error)
	TLS      *tls.Config   // nil: not encrypted. The name to verify is the host's
	Conns    int           // that write, and as many that read; 8 if 0
	Patience time.Duration // how long a server that is away is waited for before a request is refused; 5 s if 0
}

// ParseURL reads where the server is: postgresql://user@host:port,host:port/database or mariadb://..., with ?socket=PATH in place of hosts. A password
// in it is refused: URLs are in files and environments that others may read.
func ParseURL(text string) (*Server, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	s := &Server{Driver: scheme}
	port := map[string]string{dialectPostgreSQL: "5432", dialectMariaDB: "3306"}[scheme]
	if port == "" {
		return nil, errors.New("it does not begin with postgresql:// or mariadb://")
	}
	// Several hosts are no URL: they are taken out before the rest is read as one.
	authority, path, _ := strings.Cut(rest, "/")
	user, hosts, found := strings.Cut(authority, "@")
	if !found {
		return nil, errors.New("it names no user: postgresql://user@host/database")
	}
	if strings.Contains(user, ":") {
		return nil, errors.New("it holds a password: put that into a file that store.password_file names")
	}
	u, err := url.Parse("x://h/" + path)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	if s.User, err = url.PathUnescape(user); err != nil || s.User == "" {
		return nil, errors.New("it names no user: postgresql://user@host/database")
	}
	if s.Database = strings.TrimPrefix(u.Path, "/"); s.Database == "" || strings.Contains(s.Database, "/") {
		return nil, errors.New("it names no database: postgresql://user@host/database")
	}
	for key := range query {
		if key != "socket" {
			return nil, fmt.Errorf("it has the parameter %q; there is only socket", key)
		}
	}
	s.Socket = query.Get("socket")
	if (s.Socket == "") == (hosts == "") || s.Socket != "" && !filepath.IsAbs(s.Socket) {
		return nil, errors.New("it needs either hosts or the absolute path of a socket")
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if hosts == "" {
			break
		}
		host, err := hostPort(h, port)
		if err != nil {
			return nil, err
		}
		s.Hosts = append(s.Hosts, host)
	}
	return s, nil
}

func hostPort(text, port string) (string, error) {
	u, err := url.Parse("x://" + text)
	if err != nil || u.Hostname() == "" || u.Path != "" {
		return "", fmt.Errorf("%q is not a host with a port", text)
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)), nil
}

// Nearby reports whether what is sent to the server does not leave this machine.
func (s *Server) Nearby() bool {
	return !slices.ContainsFunc(s.Hosts, func(h string) bool {
		host, _, _ := net.SplitHostPort(h)
		ip := net.ParseIP(host)
		return host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}

// TLSFiles says how the connection to a server is encrypted.
type TLSFiles struct {
	// Mode is "verify" (the server shows a certificate for its name), "require" (any certificate: only who listens is kept out) or "off"; "" is off
	// where nothing leaves the machine, and verify elsewhere.
	Mode      string
	CA        string // file of the certificates that are believed; "": the system's
	Cert, Key string // files of our own certificate; "": none
}

// UseTLS reads the files and sets TLS.
func (s *Server) UseTLS(f TLSFiles) error {
	mode := f.Mode
	if mode == "" && s.Nearby() {
		mode = "off"
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch mode {
	case "off":
		return nil
	case "require":
		c.InsecureSkipVerify = true // the operator says so
	case "", "verify":
	default:
		return fmt.Errorf("store.tls: %q is none of verify, require, off", f.Mode)
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return fmt.Errorf("store.tls_ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("store.tls_ca: there is no certificate in %s", f.CA)
		}
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("store.tls_cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	s.TLS = c
	return nil
}

// tlsFor returns the configuration for one host.
func (s *Server) tlsFor(host string) *tls.Config {
	if s.TLS == nil {
		return nil
	}
	c := s.TLS.Clone()
	c.ServerName = host
	return c
}

func (s *Server) password() (string, error) {
	if s.Password == nil {
		return "", nil
	}
	p, err := s.Password()
	if err != nil {
		return "", fmt.Errorf("read the password of the store: %w", err)
	}
	return p.Reveal(), nil
}

func (s *Server) dialect() (*dialect, error) {
	switch s.Driver {
	case dialectPostgreSQL:
		return postgresDialect(), nil
	case dialectMariaDB:
		return mariadbDialect(), nil
	}
	return nil, fmt.Errorf("sqlstore: there is no driver %q", s.Driver)
}

func (s *Server) conns() int { return cmp.Or(s.Conns, 8) }

// purpose is what the connections of a pool are for.
type purpose int

const (
	forWriting purpose = iota
	forReading
	forMigration
)

// open returns a pool. It connects once, so that what is wrong with the configuration is known at once. Connected is called with each new
// connection; nil: nobody wants to know.
func (s *Server) open(ctx context.Context, why purpose, connected func()) (*sql.DB, error) {
	var c driver.Connector
	var err error
	if s.Driver == dialectPostgreSQL {
		c, err = s.postgresConnector(why)
	} else {
		c, err = s.mariadbConnector(why)
	}
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(noticing{c, connected})
	n := s.conns()
	db.SetMaxIdleConns(n)
	if why == forWriting {
		n *= 2 // those that are being closed must not keep new ones away
	}
	db.SetMaxOpenConns(n)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the store %s at %s: %w", s.Database, cmp.Or(s.Socket, strings.Join(s.Hosts, ", ")), err), db.Close())
	}
	return db, nil
}

// noticing tells of each connection that is made.
type noticing struct {
	driver.Connector
	connected func()
}

// Connect makes a connection.
func (n noticing) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	c, err := n.Connector.Connect(ctx)
	if err == nil && n.connected != nil {
		n.connected()
	}
	return c, err //nolint:wrapcheck // database/sql looks at it
}

var goneErrors = []error{
	driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE,
}

// gone reports the errors that say of every driver that the connection has gone.
func gone(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return slices.ContainsFunc(goneErrors, func(e error) bool { return errors.Is(err, e) })
}
