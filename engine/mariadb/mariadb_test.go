package mariadb_test

import (
	"database/sql"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/mysqlfamily/familytest"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/internal/clock"
)

func newEngine() *mariadb.Engine { return mariadb.New(slog.New(slog.DiscardHandler), clock.System{}) }

func TestMain(m *testing.M) { familytest.Main(m) }

func TestMariaDB(t *testing.T) { familytest.Run(t, product) }

var product = familytest.Case{
	New: func() familytest.Driver { return newEngine() }, Manager: mariadb.Manager, Server: "/usr/sbin/mariadbd",
	Tables:  []string{"/usr/bin/mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"},
	Version: regexp.MustCompile(`Ver ([0-9.]+)-MariaDB`), Client: []string{"mariadb", "--ssl"}, Proof: "mysql_native_password USING '*",
	Accounts: "SELECT CONCAT(User, '@', Host) FROM mysql.global_priv ORDER BY 1", Fresh: "mariadb.sys@localhost root@% root@localhost",
	Identity:  []string{"mysql/ibtmp1", "mysql/auto.cnf", "mysql/*-bin.*"},
	Variables: variables,
	// Of Trove's rules for MariaDB the server has no innodb_thread_concurrency, and the service sets server_id.
	Troves: `auto_increment_increment auto_increment_offset autocommit bulk_insert_buffer_size character_set_client character_set_connection
character_set_database character_set_filesystem character_set_results character_set_server collation_connection collation_database collation_server
connect_timeout expire_logs_days innodb_buffer_pool_size innodb_file_per_table innodb_flush_log_at_trx_commit innodb_flush_method innodb_log_buffer_size
innodb_log_file_size innodb_open_files interactive_timeout join_buffer_size key_buffer_size local_infile long_query_time lower_case_table_names
max_allowed_packet max_connect_errors max_connections max_prepared_stmt_count max_user_connections myisam_sort_buffer_size performance_schema
sort_buffer_size sync_binlog wait_timeout`,
	Values: map[string]string{
		"aria_stats_method": "nulls_equal", "character_set_client": "utf8mb3", "character_set_connection": "utf8mb3", "character_set_database": "latin1",
		"character_set_filesystem": "utf8mb3", "character_set_results": "utf8mb3", "character_set_server": "utf8mb4", "collation_connection": "utf8mb3_bin",
		"collation_database": "latin1_bin", "collation_server": "utf8mb4_bin", "default_storage_engine": "Aria", "event_scheduler": "ON",
		"ft_boolean_syntax": "+ -><()~*:\"\"&^", "innodb_default_row_format": "compact", "innodb_flush_method": "fsync", "innodb_stats_method": "nulls_unequal",
		"lc_time_names": "de_DE", "log_slow_filter": "admin", "log_slow_verbosity": "query_plan", "myisam_stats_method": "nulls_equal",
		"optimizer_adjust_secondary_key_costs": "disable_max_seek", "optimizer_switch": "mrr=on", "query_cache_type": "DEMAND",
		"sql_mode": "ANSI,NO_BACKSLASH_ESCAPES", "thread_handling": "pool-of-threads", "time_zone": "+02:00", "tx_isolation": "READ-COMMITTED",
		"use_stat_tables": "NEVER",
	},
	Excluded: []string{
		"require_secure_transport", "innodb_buffer_pool_size", "max_user_connections", "max_statement_time", "max_connections", "max_join_size", "tmp_disk_table_size",
	},
	Binding: map[string]string{
		"max_statement_time": "0.000001", "autocommit": "0", "sql_safe_updates": "true", "max_join_size": "1", "max_prepared_stmt_count": "0",
		"tmp_disk_table_size": "1024", "tmp_memory_table_size": "0", "sql_mode": `"ANSI_QUOTES,NO_BACKSLASH_ESCAPES"`, "require_secure_transport": "true",
		"idle_transaction_timeout": "1", "lock_wait_timeout": "0", "wait_timeout": "1", "time_zone": `"+05:00"`, "character_set_client": `"latin1"`,
	},
	TLS: []familytest.TLSStep{
		// A server without authorities believes no certificate.
		{Change: mode(engine.TLSBasic, false), Plain: true, Secure: true},
		{Change: mode(engine.TLSEnforced, false), Secure: true},
		{Change: mode(engine.TLSMutual, true), Restart: true, Shown: true},
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

func variables(t testing.TB, db *sql.DB) map[string]familytest.Variable {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, COALESCE(NUMERIC_MIN_VALUE,''), COALESCE(NUMERIC_MAX_VALUE,''),
READ_ONLY='YES', COALESCE(GLOBAL_VALUE,'') FROM information_schema.SYSTEM_VARIABLES`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string]familytest.Variable{}
	for rows.Next() {
		var name, kind string
		var v familytest.Variable
		if err := rows.Scan(&name, &kind, &v.Min, &v.Max, &v.ReadOnly, &v.Global); err != nil {
			t.Fatal(err)
		}
		v.ReadOnly = v.ReadOnly || name == "innodb_buffer_pool_size" // since 10.11.12 it cannot grow beyond what the server began with
		v.Type = trove.ParameterString
		switch {
		case strings.Contains(kind, "INT"):
			v.Type = trove.ParameterInteger
		case kind == "BOOLEAN":
			v.Type = trove.ParameterBoolean
		case kind == "DOUBLE":
			v.Type = trove.ParameterFloat
		}
		all[name] = v
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func BenchmarkFirstStart(b *testing.B) { product.FirstStart(b) }
