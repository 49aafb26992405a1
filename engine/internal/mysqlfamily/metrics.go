package mysqlfamily

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/engine"
)

var (
	_ engine.MetricSource    = (*Engine)(nil)
	_ engine.StatementSource = (*Engine)(nil)
)

// Metrics implements engine.MetricSource with the names of mysqld_exporter. The series are those of the lists here and the server's own few, however much
// the tenant has.
func (e *Engine) Metrics(ctx context.Context, l engine.Layout) ([]engine.Metric, error) {
	all := []engine.Metric{{Name: "mysql_up", Help: "Whether the MySQL server is up.", Value: 1}}
	err := e.Place(l).With(ctx, func(db *sql.Conn) error {
		status, err := readPairs(ctx, db, "SHOW GLOBAL STATUS")
		if err != nil {
			return fmt.Errorf("read the server's status: %w", err)
		}
		variables, err := readPairs(ctx, db, "SHOW GLOBAL VARIABLES")
		if err != nil {
			return fmt.Errorf("read the server's variables: %w", err)
		}
		all = append(all, statusMetrics(status)...)
		all = append(all, variableMetrics(variables)...)
		all = append(all, engine.Metric{
			Name: "mysql_version_info", Help: "MySQL version and distribution.", Value: 1, Labels: map[string]string{
				"version": variables["version"], "version_comment": variables["version_comment"], "innodb_version": variables["innodb_version"],
			},
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// readPairs reads names, in small letters, and values.
func readPairs(ctx context.Context, db *sql.Conn, query string) (map[string]string, error) {
	all := map[string]string{}
	err := Texts(ctx, db, 2, func(v []string) { all[strings.ToLower(v[0])] = v[1] }, query)
	return all, err
}

// family is a metric that has one of several counters of the server in each series.
type family struct{ prefix, name, label, help string }

var families = []family{
	{"com_", "mysql_global_status_commands_total", "command", "Total number of executed MySQL commands."},
	{"handler_", "mysql_global_status_handlers_total", "handler", "Total number of executed MySQL handlers."},
	{"connection_errors_", "mysql_global_status_connection_errors_total", "error", "Total number of MySQL connection errors."},
	{"innodb_rows_", "mysql_global_status_innodb_row_ops_total", "operation", "Total number of MySQL InnoDB row operations."},
}

// commands are those of the many statements that are worth a series.
var commands = []string{
	"admin_commands", "alter_table", "begin", "call_procedure", "change_db", "commit", "create_db", "create_index", "create_table", "create_user", "delete",
	"delete_multi", "drop_db", "drop_index", "drop_table", "drop_user", "flush", "grant", "insert", "insert_select", "kill", "load", "lock_tables", "optimize",
	"replace", "replace_select", "revoke", "rollback", "select", "set_option", "show_processlist", "show_status", "show_tables", "show_variables", "stmt_close",
	"stmt_execute", "stmt_prepare", "truncate", "unlock_tables", "update", "update_multi", "xa_commit", "xa_rollback",
}

// counters and gauges are the generic ones: mysql_global_status_ and the name.
var (
	counters = []string{
		"aborted_clients", "aborted_connects", "bytes_received", "bytes_sent", "connections", "created_tmp_disk_tables", "created_tmp_files",
		"created_tmp_tables", "innodb_buffer_pool_read_ahead", "innodb_buffer_pool_read_ahead_evicted", "innodb_buffer_pool_read_requests",
		"innodb_buffer_pool_reads", "innodb_buffer_pool_wait_free", "innodb_buffer_pool_write_requests", "innodb_data_fsyncs", "innodb_data_read",
		"innodb_data_reads", "innodb_data_writes", "innodb_data_written", "innodb_deadlocks", "innodb_dblwr_pages_written", "innodb_dblwr_writes",
		"innodb_log_waits", "innodb_log_write_requests", "innodb_log_writes", "innodb_os_log_fsyncs", "innodb_os_log_written", "innodb_pages_created",
		"innodb_pages_read", "innodb_pages_written", "innodb_row_lock_time", "innodb_row_lock_waits", "key_read_requests", "key_reads",
		"key_write_requests", "key_writes", "max_execution_time_exceeded", "opened_files", "opened_table_definitions", "opened_tables", "qcache_hits",
		"qcache_inserts", "qcache_lowmem_prunes", "queries", "questions", "select_full_join", "select_full_range_join", "select_range", "select_range_check",
		"select_scan", "slow_launch_threads", "slow_queries", "sort_merge_passes", "sort_range", "sort_rows", "sort_scan", "table_locks_immediate",
		"table_locks_waited", "table_open_cache_hits", "table_open_cache_misses", "table_open_cache_overflows", "threads_created", "uptime",
	}
	gauges = []string{
		"innodb_buffer_pool_bytes_data", "innodb_buffer_pool_bytes_dirty", "innodb_data_pending_fsyncs", "innodb_data_pending_reads",
		"innodb_data_pending_writes", "innodb_num_open_files", "innodb_page_size", "innodb_row_lock_current_waits", "innodb_row_lock_time_avg",
		"innodb_row_lock_time_max", "key_blocks_not_flushed", "key_blocks_unused", "key_blocks_used", "max_used_connections", "memory_used", "open_files",
		"open_table_definitions", "open_tables", "prepared_stmt_count", "qcache_free_blocks", "qcache_free_memory", "qcache_queries_in_cache",
		"threads_cached", "threads_connected", "threads_running",
	}
	settings = []string{
		"innodb_buffer_pool_chunk_size", "innodb_buffer_pool_instances", "innodb_buffer_pool_size", "innodb_flush_log_at_trx_commit", "innodb_io_capacity",
		"innodb_io_capacity_max", "innodb_log_buffer_size", "innodb_log_file_size", "innodb_open_files", "innodb_redo_log_capacity", "innodb_thread_concurrency",
		"interactive_timeout", "join_buffer_size", "key_buffer_size", "long_query_time", "max_allowed_packet", "max_connections", "max_heap_table_size",
		"max_prepared_stmt_count", "max_user_connections", "open_files_limit", "performance_schema", "query_cache_size", "read_only", "server_id",
		"slow_query_log", "sort_buffer_size", "sync_binlog", "table_definition_cache", "table_open_cache", "thread_cache_size", "tmp_table_size", "wait_timeout",
	}
)

func statusMetrics(status map[string]string) []engine.Metric {
	var all []engine.Metric
	for _, part := range []struct {
		names   []string
		counter bool
	}{{counters, true}, {gauges, false}} {
		for _, name := range part.names {
			if v, ok := number(status[name]); ok {
				all = append(all, engine.Metric{
					Name: "mysql_global_status_" + name, Help: "Generic metric from SHOW GLOBAL STATUS.", Counter: part.counter, Value: v,
				})
			}
		}
	}
	for _, name := range sortedKeys(status) {
		v, ok := number(status[name])
		if !ok {
			continue
		}
		for _, f := range families {
			if rest, found := strings.CutPrefix(name, f.prefix); found && (f.label != "command" || slices.Contains(commands, rest)) {
				all = append(all, engine.Metric{Name: f.name, Help: f.help, Counter: true, Value: v, Labels: map[string]string{f.label: rest}})
			}
		}
		if m, ok := poolMetric(name, v); ok {
			all = append(all, m)
		}
	}
	return all
}

// poolMetric is one of the buffer pool's pages, as the exporter names them.
func poolMetric(name string, v float64) (engine.Metric, bool) {
	rest, found := strings.CutPrefix(name, "innodb_buffer_pool_pages_")
	switch {
	case !found:
		return engine.Metric{}, false
	case slices.Contains([]string{"data", "free", "misc", "old"}, rest):
		return engine.Metric{Name: "mysql_global_status_buffer_pool_pages", Help: "InnoDB buffer pool pages by state.", Value: v, Labels: map[string]string{"state": rest}}, true
	case rest == "dirty":
		return engine.Metric{Name: "mysql_global_status_buffer_pool_dirty_pages", Help: "InnoDB buffer pool dirty pages.", Value: v}, true
	case rest == "total":
		return engine.Metric{Name: "mysql_global_status_innodb_buffer_pool_pages_total", Help: "Generic metric from SHOW GLOBAL STATUS.", Value: v}, true
	}
	return engine.Metric{
		Name: "mysql_global_status_buffer_pool_page_changes_total", Help: "InnoDB buffer pool page state changes.", Counter: true, Value: v,
		Labels: map[string]string{"operation": rest},
	}, true
}

func variableMetrics(variables map[string]string) []engine.Metric {
	var all []engine.Metric
	for _, name := range settings {
		if v, ok := number(variables[name]); ok {
			all = append(all, engine.Metric{Name: "mysql_global_variables_" + name, Help: "Generic gauge metric from SHOW GLOBAL VARIABLES.", Value: v})
		}
	}
	return all
}

// number reads a figure or a switch.
func number(text string) (float64, bool) {
	switch strings.ToUpper(text) {
	case "ON", "YES":
		return 1, true
	case "OFF", "NO", "DISABLED":
		return 0, true
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// maxStatementText is how long a statement's text is, in bytes.
const maxStatementText = 1024

// Statements implements engine.StatementSource from the digests of the performance schema, whose texts have placeholders. Without the performance schema there
// are none. The agent's own and those of the service's databases are left out.
func (e *Engine) Statements(ctx context.Context, l engine.Layout, limit int) ([]engine.Statement, error) {
	all := []engine.Statement{}
	err := e.Place(l).With(ctx, func(db *sql.Conn) error {
		rows, err := db.QueryContext(ctx, `SELECT LEFT(DIGEST_TEXT, 1024), COALESCE(SCHEMA_NAME, ''), COUNT_STAR, SUM_TIMER_WAIT, SUM_ROWS_SENT + SUM_ROWS_AFFECTED
FROM performance_schema.events_statements_summary_by_digest WHERE DIGEST_TEXT IS NOT NULL AND SCHEMA_NAME IS NOT NULL
AND SCHEMA_NAME NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY SUM_TIMER_WAIT DESC, DIGEST_TEXT LIMIT ?`, max(limit, 0))
		if err != nil {
			return fmt.Errorf("read the statements' digests: %w", err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var s engine.Statement
			var picoseconds uint64
			if err := rows.Scan(&s.Text, &s.Database, &s.Calls, &picoseconds, &s.Rows); err != nil {
				return fmt.Errorf("read the statements' digests: %w", err)
			}
			s.Text = cut(s.Text)
			s.Time = time.Duration(picoseconds / 1000)
			all = append(all, s)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// cut shortens a text to whole characters within the limit.
func cut(text string) string {
	if len(text) <= maxStatementText {
		return text
	}
	return strings.ToValidUTF8(text[:maxStatementText], "")
}
