package mysql_test

import (
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/mysqlfamily/familytest"
	"github.com/trove-dbaas/trove/engine/mysql"
	"github.com/trove-dbaas/trove/internal/clock"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) { familytest.Main(m) }

// TestMySQL needs the server's programs, which Debian's stable releases do not have: make enginetest runs it where they are.
func TestMySQL(t *testing.T) {
	if _, err := os.Stat(product.Server); err != nil {
		t.Skipf("MySQL's server is not on this machine; make enginetest runs this in the root file system of the image: %v", err)
	}
	familytest.Run(t, product)
}

func BenchmarkFirstStart(b *testing.B) { product.FirstStart(b) }

var product = familytest.Case{
	New:     func() familytest.Driver { return mysql.New(slog.New(slog.DiscardHandler), clock.System{}) },
	Manager: mysql.Manager, Server: "/usr/sbin/mysqld",
	Tables: []string{"/usr/sbin/mysqld", "--no-defaults", "--initialize-insecure"}, Bare: []string{"--mysqlx=OFF", "--secure-file-priv=NULL"},
	Version: regexp.MustCompile(`Ver ([0-9.]+)`), Client: []string{"mysql", "--ssl-mode=REQUIRED"}, Proof: "caching_sha2_password AS 0x",
	Accounts: "SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1",
	Fresh:    "mysql.infoschema@localhost mysql.session@localhost mysql.sys@localhost root@% root@localhost",
	Identity: []string{"mysql/ibtmp1", "mysql/auto.cnf", "mysql/mysqld-auto.cnf", "mysql/binlog.*"}, Variables: variables,
	// Of Trove's rules for MySQL the service sets server_id, and lower_case_table_names must be what it was when the data directory was made.
	Troves: `auto_increment_increment auto_increment_offset autocommit bulk_insert_buffer_size character_set_client character_set_connection
character_set_database character_set_filesystem character_set_results character_set_server collation_connection collation_database collation_server
connect_timeout innodb_buffer_pool_size innodb_file_per_table innodb_flush_log_at_trx_commit innodb_log_buffer_size innodb_open_files
innodb_thread_concurrency interactive_timeout join_buffer_size key_buffer_size local_infile long_query_time max_allowed_packet max_connect_errors
max_connections max_prepared_stmt_count max_user_connections myisam_sort_buffer_size performance_schema sort_buffer_size sync_binlog wait_timeout`,
	Values: map[string]string{
		"character_set_client": "latin1", "character_set_connection": "latin1", "character_set_database": "latin1", "character_set_filesystem": "utf8mb4",
		"character_set_results": "latin1", "character_set_server": "utf8mb4", "collation_connection": "utf8mb4_bin", "collation_database": "latin1_bin",
		"collation_server": "utf8mb4_bin", "concurrent_insert": "ALWAYS", "default_storage_engine": "MyISAM", "delay_key_write": "ALL", "event_scheduler": "OFF",
		"ft_boolean_syntax": "+ -><()~*:\"\"&^", "innodb_change_buffering": "none", "innodb_default_row_format": "compact",
		"innodb_flush_method": "fsync", "innodb_stats_method": "nulls_unequal", "internal_tmp_mem_storage_engine": "MEMORY", "lc_time_names": "de_DE",
		"log_timestamps": "SYSTEM", "myisam_stats_method": "nulls_equal", "optimizer_switch": "mrr=off", "sql_mode": "ANSI,NO_BACKSLASH_ESCAPES",
		"thread_handling": "no-threads", "time_zone": "+02:00", "transaction_isolation": "READ-COMMITTED",
	},
	Excluded: []string{
		"require_secure_transport", "innodb_buffer_pool_size", "max_user_connections", "max_execution_time", "max_connections", "max_join_size", "thread_handling",
		"connection_memory_limit", "global_connection_memory_limit", "sql_require_primary_key", "parser_max_mem_size",
	},
	Binding: map[string]string{
		"max_execution_time": "1", "autocommit": "0", "sql_safe_updates": "true", "max_join_size": "1", "max_prepared_stmt_count": "0", "tmp_table_size": "1024",
		"sql_mode": `"ANSI_QUOTES,NO_BACKSLASH_ESCAPES"`, "require_secure_transport": "true", "lock_wait_timeout": "1", "wait_timeout": "1",
		"time_zone": `"+05:00"`, "character_set_client": `"latin1"`, "sql_require_primary_key": "true",
	},
	TLS: []familytest.TLSStep{
		{Change: mode(engine.TLSBasic, false), Plain: true, Secure: true},
		{Change: mode(engine.TLSEnforced, false), Secure: true},
		{Change: mode(engine.TLSMutual, true), Shown: true},
		{Change: mode(engine.TLSEnforced, true), Secure: true, Shown: true},
		{Change: mode(engine.TLSMutual, true), Shown: true},
		{Change: func([]byte) engine.TLSChange { return engine.TLSChange{Off: true} }, Restart: true, Plain: true},
		{Change: mode(engine.TLSEnforced, false), Restart: true, Secure: true},
		{Change: mode(engine.TLSBasic, false), Plain: true, Secure: true},
	},
}

// mode is a change to a mode, with or without authorities of clients.
func mode(m engine.TLSMode, authorities bool) func(authority []byte) engine.TLSChange {
	return func(authority []byte) engine.TLSChange {
		if !authorities {
			authority = nil
		}
		return engine.TLSChange{Mode: m, CA: authority}
	}
}

var types = map[string]trove.ParameterType{
	"Integer": trove.ParameterInteger, "Numeric": trove.ParameterFloat, "Boolean": trove.ParameterBoolean,
}

func variables(t testing.TB, db *sql.DB) map[string]familytest.Variable {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT LOWER(VARIABLE_NAME), DATA_TYPE, COALESCE(MIN_VALUE,''), COALESCE(MAX_VALUE,''), COALESCE(VARIABLE_VALUE,'')
FROM performance_schema.variables_metadata JOIN performance_schema.global_variables USING (VARIABLE_NAME)`)
	must(t, err)
	defer func() { _ = rows.Close() }()
	all := map[string]familytest.Variable{}
	for rows.Next() {
		var name, kind string
		var v familytest.Variable
		must(t, rows.Scan(&name, &kind, &v.Min, &v.Max, &v.Global))
		v.Type = types[kind]
		if v.Type == "" {
			v.Type = trove.ParameterString
		}
		if name == "long_query_time" { // its limit is not in seconds there
			v.Max = "31536000"
		}
		all[name] = v
	}
	must(t, rows.Err())
	var me string
	must(t, db.QueryRowContext(t.Context(), "SELECT CURRENT_USER()").Scan(&me))
	for name, v := range all {
		v.ReadOnly = me == "root@%" && readOnly(t, db, name) // nobody else may ask
		all[name] = v
	}
	return all
}

// readOnly tries whether a variable can be set.
func readOnly(t testing.TB, db *sql.DB, name string) bool {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "SET GLOBAL "+name+" = @@GLOBAL."+name)
	refused, ok := errors.AsType[*driver.MySQLError](err)
	return ok && refused.Number == 1238
}
