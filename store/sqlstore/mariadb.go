package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"
)

func mariadbDialect() *dialect {
	return &dialect{
		name: dialectMariaDB, goose: goose.DialectMySQL, begin: "START TRANSACTION", atMost: transactionLimit,
		// A wait for a row that took too long, a deadlock (also the certification of a Galera cluster that failed), a row that changed since it was read.
		conflict: mariadbCodes(1205, 1213, 1020), duplicate: mariadbDuplicate, full: mariadbCodes(1021, 1114),
		lost: mariadbLost, slow: mariadbCodes(1969, 3024),
		// Out of range, too long, no character of the set.
		unfit: mariadbCodes(1264, 1406, 1366),
		now:   `SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED)`,
		textColumns: `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema=DATABASE() AND table_name <> 'goose_db_version'
AND data_type IN ('varchar', 'longtext') ORDER BY table_name, ordinal_position`,
	}
}

func mariadbCodes(codes ...uint16) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*mysql.MySQLError](err)
		return ok && slices.Contains(codes, e.Number)
	}
}

func mariadbDuplicate(err error) string {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && e.Number == 1062 {
		return e.Message
	}
	return ""
}

// mariadbLost knows, beside connections that break, a server that shuts down, kills the connection, has no room for one, is read-only since just now, or a
// node of a Galera cluster without the others (1047).
func mariadbLost(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return slices.Contains([]uint16{1040, 1047, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1203, 1290, 1792, 1836, 1927}, e.Number)
	}
	return gone(err) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, errNotWritable)
}

var errNotWritable = errors.New("the server takes no writes")

// mariadbConnector returns what connects to the first host that takes writes.
func (s *Server) mariadbConnector(why purpose) (driver.Connector, error) {
	var all mariadbHosts
	all.init = []string{
		`SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin`,
		`SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`,
		fmt.Sprintf(`SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout=%d`, int(lockLimit.Seconds())),
	}
	if why != forMigration {
		all.init = append(all.init, fmt.Sprintf(`SET SESSION max_statement_time=%d, idle_transaction_timeout=%d`, int(statementLimit.Seconds()), int(idleLimit.Seconds())))
	}
	if why == forReading {
		all.init = append(all.init, `SET SESSION TRANSACTION READ ONLY`)
	}
	hosts := s.Hosts
	if s.Socket != "" {
		hosts = []string{s.Socket}
	}
	for _, h := range hosts {
		c := mysql.NewConfig()
		c.User, c.DBName, c.Net, c.Addr, c.Timeout = s.User, s.Database, "tcp", h, dialTimeout
		if s.Socket != "" {
			c.Net = "unix"
		} else if host, _, err := net.SplitHostPort(h); err == nil {
			c.TLS = s.tlsFor(host)
		}
		// Rows that a statement meets count, not those that it changes: a claim that writes what is there already must not look like one that was lost.
		c.ClientFoundRows = true
		c.Logger = silent{} // what breaks comes back as an error
		err := c.Apply(mysql.Charset("utf8mb4", ""), mysql.BeforeConnect(func(_ context.Context, c *mysql.Config) (err error) {
			c.Passwd, err = s.password()
			return err
		}))
		if err != nil {
			return nil, fmt.Errorf("configure the MariaDB driver: %w", err)
		}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, fmt.Errorf("configure the MariaDB driver: %w", err)
		}
		all.hosts = append(all.hosts, connector)
	}
	return all, nil
}

type silent struct{}

// Print says nothing.
func (silent) Print(...any) {}

// mariadbHosts connects to the first of several hosts that can be written to.
type mariadbHosts struct {
	hosts []driver.Connector
	init  []string
}

// Driver returns the driver.
func (m mariadbHosts) Driver() driver.Driver { return m.hosts[0].Driver() }

// Connect tries the hosts in their order.
func (m mariadbHosts) Connect(ctx context.Context) (driver.Conn, error) {
	var errs []error
	for _, h := range m.hosts {
		c, err := h.Connect(ctx)
		if err == nil {
			if err = m.prepare(ctx, c); err == nil {
				return c, nil
			}
			_ = c.Close()
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// prepare sets the session up, and refuses a server that is none of ours.
func (m mariadbHosts) prepare(ctx context.Context, c driver.Conn) error {
	for _, text := range m.init {
		if err := execDriver(ctx, c, text); err != nil {
			return err
		}
	}
	// On a Galera cluster a node may be behind the one that the last write went to, also one of another controller. With this a SELECT, and the beginning of
	// a transaction, waits until the node has applied what the cluster had accepted by then: a read after an accepted write sees it. On a single server, or
	// one without Galera, it costs nothing. Writes need no wait: a statement on old rows fails at the cluster's certification and runs again.
	if err := execDriver(ctx, c, `SET SESSION wsrep_sync_wait=1`); err != nil && !mariadbCodes(1193)(err) {
		return err
	}
	version, readOnly, err := aboutServer(ctx, c)
	if err != nil {
		return err
	}
	if !strings.Contains(version, "MariaDB") {
		return fmt.Errorf("the server is %q and not MariaDB: others are not supported, because their collations and table definitions differ", version)
	}
	if readOnly {
		return errNotWritable
	}
	return nil
}

func execDriver(ctx context.Context, c driver.Conn, text string) error {
	_, err := c.(driver.ExecerContext).ExecContext(ctx, text, nil)
	if err != nil {
		return fmt.Errorf("set up the session: %w", err)
	}
	return nil
}

func aboutServer(ctx context.Context, c driver.Conn) (version string, readOnly bool, err error) {
	rows, err := c.(driver.QueryerContext).QueryContext(ctx, `SELECT VERSION(), CASE WHEN @@global.read_only THEN 'yes' ELSE 'no' END`, nil)
	if err != nil {
		return "", false, fmt.Errorf("ask the server what it is: %w", err)
	}
	defer rows.Close() //nolint:errcheck // the row was read
	row := make([]driver.Value, 2)
	if err := rows.Next(row); err != nil {
		return "", false, fmt.Errorf("ask the server what it is: %w", err)
	}
	return fmt.Sprintf("%s", row[0]), fmt.Sprintf("%s", row[1]) == "yes", nil
}
