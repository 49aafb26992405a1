package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	trove "github.com/trove-dbaas/trove"
)

const (
	dialTimeout  = 5 * time.Second
	queryTimeout = time.Minute // also bounds a wait for a lock that a client holds
)

// session is what the agent's sessions set, so that nothing that users set for all of them makes the agent's statements mean something else, end or wait for
// ever; and so that none of them is in a log or among the counted statements.
var session = map[string]string{
	"application_name": "trove-guestagent", "client_encoding": "UTF8", "client_min_messages": "error", "DateStyle": "ISO", "lc_messages": "C",
	"search_path": "pg_catalog", "standard_conforming_strings": "on", "bytea_output": "hex", "extra_float_digits": "1",
	"default_transaction_read_only": "off", "default_transaction_isolation": "read committed", "session_replication_role": "origin",
	"lock_timeout": "30s", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "row_security": "off",
	"default_tablespace": "", "temp_tablespaces": "", "synchronous_commit": "on", "local_preload_libraries": "", "session_preload_libraries": "",
	"log_statement": "none", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1", "log_duration": "off", "log_min_messages": "log",
	"log_min_error_statement": "panic", "log_transaction_sample_rate": "0", "log_parser_stats": "off", "log_planner_stats": "off",
	"log_executor_stats": "off", "log_statement_stats": "off", "debug_print_parse": "off", "debug_print_rewritten": "off", "debug_print_plan": "off",
	"track_activities": "off", "pg_stat_statements.track": "none",
}

// SQLSTATE of the server's errors.
const (
	errDatabaseExists  = "42P04"
	errObjectExists    = "42710"
	errUniqueViolation = "23505" // two who create at once
	errNoDatabase      = "3D000"
	errNoObject        = "42704"
	errInvalidName     = "42602"
	errInvalidValue    = "22023"
	errWrongObject     = "42809"
	errInvalidObject   = "42P17"
	errNotSupported    = "0A000"
	errObjectInUse     = "55006"
	errDependent       = "2BP01"
)

// unavailable are those that say that the server cannot answer now: too many clients, a lock, a shutdown, a start.
var unavailable = []string{"53300", "55P03", "57014", "57P01", "57P02", "57P03"}

// conn is a session of the agent.
type conn struct{ pg *pgconn.PgConn }

// with runs do over a connection of its own through the local socket. A server that is down or cannot answer now is Unavailable.
func (p place) with(ctx context.Context, database string, do func(c conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return p.withLong(ctx, database, do)
}

// withLong is for what takes as long as the data is large.
func (p place) withLong(ctx context.Context, database string, do func(c conn) error) error {
	config, err := pgconn.ParseConfig("user=" + adminName + " sslmode=disable passfile=/dev/null target_session_attrs=any")
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	config.Host, config.Port, config.Database, config.ConnectTimeout = p.runDir(), port, database, dialTimeout
	config.Fallbacks, config.RuntimeParams = nil, session
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return classify(fmt.Errorf("connect to the server: %w", err))
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		_ = pg.Close(end)
	}()
	return classify(do(conn{pg}))
}

// classify marks errors that say that the server cannot answer now. Errors with a kind stay as they are.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if slices.Contains(unavailable, e.Code) {
			return trove.Wrap(trove.KindUnavailable, err, "The database server does not answer.")
		}
		return err
	}
	_, isNet := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	if isNet || isConnect || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) {
		return trove.Wrap(trove.KindUnavailable, err, "The database server does not answer.")
	}
	return err
}

// isServer reports whether err is one of these errors of the server.
func isServer(err error, codes ...string) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, e.Code)
}

// exec runs a statement, or several that are one transaction.
func (c conn) exec(ctx context.Context, statement string) error {
	return c.pg.Exec(ctx, statement).Close()
}

// rows runs a query and returns its rows as texts; NULL is "". The arguments are texts, "" being no NULL.
func (c conn) rows(ctx context.Context, query string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	result := c.pg.ExecParams(ctx, query, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	all := make([][]string, 0, len(result.Rows))
	for _, row := range result.Rows {
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = string(v)
		}
		all = append(all, texts)
	}
	return all, nil
}

// one returns the first column of the first row, ok false if there is no row.
func (c conn) one(ctx context.Context, query string, args ...string) (value string, ok bool, err error) {
	rows, err := c.rows(ctx, query, args...)
	if err != nil || len(rows) == 0 {
		return "", false, err
	}
	return rows[0][0], true, nil
}

// column returns the first column of all rows.
func (c conn) column(ctx context.Context, query string, args ...string) ([]string, error) {
	rows, err := c.rows(ctx, query, args...)
	all := make([]string, 0, len(rows))
	for _, row := range rows {
		all = append(all, row[0])
	}
	return all, err
}

// reason is what the server said, without the full stop.
func reason(err error) string {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err.Error()
	}
	return strings.TrimSuffix(e.Message, ".")
}
