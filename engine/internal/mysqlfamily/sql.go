package mysqlfamily

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
)

const (
	dialTimeout  = 5 * time.Second
	queryTimeout = time.Minute // also bounds a wait for a lock that a client holds
)

// Numbers of the server's errors.
const (
	errDatabaseExists    = 1007
	errDatabaseUnknown   = 1008
	errTooManyClients    = 1040
	errAccessDenied      = 1045
	errShutdown          = 1053
	errWrongName         = 1102
	errCharsetUnknown    = 1115
	errNoUser            = 1133
	errNoGrant           = 1141
	errLockTimeout       = 1205
	errCollationUnknown  = 1273
	errCollationMismatch = 1253
	errCannotUser        = 1396
)

// With runs do over a connection of its own through the local socket. A server that is down or cannot answer now is Unavailable.
func (p Place) With(ctx context.Context, do func(db *sql.Conn) error) error {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = rootName, "unix", p.Socket()
	config.Timeout, config.ReadTimeout, config.WriteTimeout = dialTimeout, queryTimeout, queryTimeout
	config.Params = p.product.Session
	config.InterpolateParams = true // the server may be told to prepare no statements at all; our own sql_mode makes the escaping safe
	config.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return classify(fmt.Errorf("connect to the server: %w", err))
	}
	defer func() { _ = conn.Close() }()
	return classify(do(conn))
}

// classify marks errors that say that the server cannot answer now. Errors with a kind stay as they are.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	_, isNet := errors.AsType[net.Error](err)
	if isNet || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, context.DeadlineExceeded) || isServer(err, errTooManyClients, errShutdown, errLockTimeout) {
		return trove.Wrap(trove.KindUnavailable, err, "The database server does not answer.")
	}
	return err
}

// isServer reports whether err is one of these errors of the server.
func isServer(err error, numbers ...uint16) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains(numbers, e.Number)
}

// Exec runs a statement.
func Exec(ctx context.Context, db *sql.Conn, statement string) error {
	_, err := db.ExecContext(ctx, statement)
	return err
}

// Texts runs a query whose columns are all text and calls row for each.
func Texts(ctx context.Context, db *sql.Conn, columns int, row func(values []string), query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	values := make([]string, columns)
	targets := make([]any, columns)
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		row(values)
	}
	return rows.Err()
}
