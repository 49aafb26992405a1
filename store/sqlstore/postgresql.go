package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

func postgresDialect() *dialect {
	return &dialect{
		name: dialectPostgreSQL, goose: goose.DialectPostgres, begin: "BEGIN", numbered: true, atMost: transactionLimit,
		control: []any{pgx.QueryExecModeSimpleProtocol}, // one message each, nothing to prepare
		// Serialization, deadlock, and a row that another transaction held for longer than lockLimit.
		conflict: pgCodes("40001", "40P01", "55P03"), duplicate: pgDuplicate, full: pgCodes("53100"),
		lost: pgLost, slow: pgCodes("57014"),
		// Too long, no UTF-8, a NUL, a number out of range.
		unfit: pgCodes("22001", "22021", "22P05", "22003"),
		now:   `SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp())*1000000 AS BIGINT)`,
		textColumns: `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema=current_schema() AND table_name <> 'goose_db_version'
AND data_type IN ('character varying', 'text') ORDER BY table_name, ordinal_position`,
	}
}

func pgCodes(codes ...string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*pgconn.PgError](err)
		return ok && slices.Contains(codes, e.Code)
	}
}

func pgDuplicate(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "23505" {
		return e.ConstraintName + " " + e.Detail
	}
	return ""
}

// pgLost knows, beside connections that break, a server that shuts down, starts, has no room for a connection, or was the primary until just now.
func pgLost(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(e.Code, "08") || pgCodes("57P01", "57P02", "57P03", "57P05", "53300", "25006", "25P03")(err)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	return gone(err) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// postgresConnector configures the driver by hand: its own way would let PG... variables of the environment and files of the user have a say.
func (s *Server) postgresConnector(why purpose) (driver.Connector, error) {
	c, err := pgx.ParseConfig("host=localhost sslmode=disable user=x passfile='' target_session_attrs=any")
	if err != nil {
		return nil, fmt.Errorf("configure the PostgreSQL driver: %w", err)
	}
	c.User, c.Database, c.Password, c.ConnectTimeout, c.Fallbacks = s.User, s.Database, "", dialTimeout, nil
	if err := s.pgHosts(c); err != nil {
		return nil, err
	}
	if len(s.Hosts) > 1 {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	c.RuntimeParams = map[string]string{
		"application_name": "trove", "client_encoding": "UTF8", "default_transaction_isolation": "read committed",
	}
	if why != forMigration {
		c.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(idleLimit.Milliseconds(), 10)
		c.RuntimeParams["statement_timeout"] = strconv.FormatInt(statementLimit.Milliseconds(), 10)
		c.RuntimeParams["lock_timeout"] = strconv.FormatInt(lockLimit.Milliseconds(), 10)
	}
	if why == forReading {
		c.RuntimeParams["default_transaction_read_only"] = "on"
	}
	if why == forReading && len(s.Hosts) > 1 { // the session is read-only by our own wish, which the usual check would take for a standby
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	return stdlib.GetConnector(*c, stdlib.OptionBeforeConnect(func(_ context.Context, c *pgx.ConnConfig) (err error) {
		c.Password, err = s.password()
		return err
	})), nil
}

func (s *Server) pgHosts(c *pgx.ConnConfig) error {
	if s.Socket != "" {
		c.Host, c.Port, c.TLSConfig = s.Socket, 5432, nil
		return nil
	}
	for n, h := range s.Hosts {
		host, text, err := net.SplitHostPort(h)
		if err != nil {
			return fmt.Errorf("the store's host %s: %w", h, err)
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("the store's host %s: %w", h, err)
		}
		if n == 0 {
			c.Host, c.Port, c.TLSConfig = host, uint16(port), s.tlsFor(host)
			continue
		}
		c.Fallbacks = append(c.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: uint16(port), TLSConfig: s.tlsFor(host)})
	}
	return nil
}
