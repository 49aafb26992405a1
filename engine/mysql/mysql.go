// Package mysql drives a MySQL server inside a guest: package mysqlfamily with what is MySQL's own.
package mysql

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	_ "embed" // the rules
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/engine/internal/mysqlfamily"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Manager is the driver's name in a datastore version.
const Manager = "mysql"

// Engine is the driver.
type Engine struct{ *mysqlfamily.Engine }

// New returns the driver.
func New(log *slog.Logger, clk clock.Clock) *Engine {
	return &Engine{mysqlfamily.New(product(), log, clk)}
}

// rulesFile has the rules of MySQL 9.7: every one of Trove's that the server knows and a user may set, with the limits that the server has, and more.
// TestRulesAreThoseOfTheServer compares them with it.
//
//go:embed parameters.json
var rulesFile []byte

var rules = sync.OnceValue(func() engine.Rules {
	all, err := engine.ParseRules(rulesFile)
	if err != nil {
		return nil // a test reads the file
	}
	return all
})

// server is the one program: it also makes the system tables.
const server = "usr/sbin/mysqld"

func product() *mysqlfamily.Product {
	own := []string{"mysql.infoschema", "mysql.session", "mysql.sys"}
	return &mysqlfamily.Product{
		Manager: Manager, Client: []string{"mysql"}, Server: server, Group: "mysqld", Args: []string{"--skip-log-bin"},
		OwnUsers: own, ReservedUsers: append([]string{"mysql", "trove_admin", "os_admin"}, own...),
		MaxUserName: 32, MaxHost: 255,

		Rules: rules(), Derived: derived, Fixed: fixed, Forbidden: forbidden,
		Variables: []string{
			"character_set_client", "character_set_connection", "character_set_database", "character_set_results", "collation_connection", "collation_database",
			"time_zone", "sql_safe_updates",
		},
		Session: map[string]string{
			"sql_mode":          "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'", // the text of our statements means the same under every global one
			"lock_wait_timeout": "30", "max_execution_time": "0", "autocommit": "1", "sql_safe_updates": "0", "max_join_size": "18446744073709551615",
			"tmp_table_size": "16777216",
		},

		SystemTables: systemTables, OnceArgs: append([]string{"--plugin-load-add=auth_socket.so"}, bare...),
		Leftovers:   []string{"ibtmp1", "ib_buffer_pool", "auto.cnf", "mysqld-auto.cnf", "*.pem", "binlog.*"},
		BeforeStart: ensureRSA, InitLines: initLines,
		TrialArgs: func(dir string) []string {
			return []string{"--validate-config", "--datadir=" + dir, "--log-error=stderr", "--skip-log-bin"}
		},
		Complaint: regexp.MustCompile(`(?m)\[ERROR\] \[[^]]*\] \[[^]]*\] (?:[^\n]*?mysqld: )?([^\n]+)`),

		Hash:       passwordHash,
		Identified: func(hash string) string { return " IDENTIFIED WITH caching_sha2_password AS 0x" + hash },
		BySocket:   " IDENTIFIED WITH auth_socket", Restored: restored,
		SQL: queries, ReadVariables: readVariables,
		TLSOff: mysqlfamily.Option{Name: "tls_version"}, LiveCA: "SET GLOBAL ssl_ca = ?", ReloadTLS: "ALTER INSTANCE RELOAD TLS",
		// The server knows no authority but those of clients; it has its key and certificate all the same.
		ForceTLS: "ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR", Unproven: "Invalid certificates",
	}
}

// accounts leaves roles out: the server makes them as accounts without a password that are locked and expired.
const accounts = "SELECT User, Host FROM mysql.user WHERE NOT (account_locked = 'Y' AND password_expired = 'Y' AND authentication_string = '')"

var queries = mysqlfamily.Queries{
	Accounts: accounts,
	Auth:     "SELECT plugin, HEX(COALESCE(authentication_string, '')) FROM mysql.user WHERE User = ? AND Host = ?",
	Unproven: accounts + " AND Host <> 'localhost' AND ssl_type IN ('', 'ANY')",
	Proven:   accounts + " AND Host <> 'localhost' AND ssl_type = 'X509'",
	Drifted: `SELECT LOWER(VARIABLE_NAME), DATA_TYPE, COALESCE(VARIABLE_VALUE, '') FROM performance_schema.variables_info
JOIN performance_schema.variables_metadata USING (VARIABLE_NAME) JOIN performance_schema.global_variables USING (VARIABLE_NAME)
WHERE VARIABLE_SOURCE = 'DYNAMIC' ORDER BY 1`,
	TLS: "SELECT @@global.tls_version <> '', COALESCE(@@global.ssl_ca, '')",
}

// performanceFrom is the memory, in MiB, from which the server measures itself: below it there are better uses for what that takes.
const performanceFrom = 1024

// directFrom is the memory, in MiB, from which the server reads and writes past the kernel's cache. Below it the cache is the larger part of the memory, and a
// start, which reads some 800 pages one after the other, takes two thirds of the time with it.
const directFrom = 2048

func derived(ram int) []mysqlfamily.Option {
	measured, method := "OFF", "fsync"
	if ram >= performanceFrom {
		measured = "ON"
	}
	if ram >= directFrom {
		method = "O_DIRECT"
	}
	return []mysqlfamily.Option{
		{Name: "collation_server", Value: "utf8mb4_0900_ai_ci"},
		// With less the server does not start under the greatest innodb_thread_concurrency, and a trial does not notice.
		{Name: "innodb_flush_method", Value: method},
		{Name: "innodb_redo_log_capacity", Value: mysqlfamily.MiB(min(max(192, ram/8), 1024))},
		{Name: "performance_schema", Value: measured},
	}
}

func fixed(p mysqlfamily.Place) []mysqlfamily.Option {
	return []mysqlfamily.Option{
		{Name: "mysqlx", Value: "OFF"}, // the X protocol has another port and certificates of its own
		{Name: "plugin_load_add", Value: "auth_socket.so"},
		{Name: "auto_generate_certs", Value: "OFF"},
		{Name: "caching_sha2_password_auto_generate_rsa_keys", Value: "OFF"},
		{Name: "sha256_password_auto_generate_rsa_keys", Value: "OFF"},
		{Name: "caching_sha2_password_private_key_path", Value: rsaKey(p)},
		{Name: "caching_sha2_password_public_key_path", Value: rsaPublic(p)},
		{Name: "sha256_password_private_key_path", Value: rsaKey(p)},
		{Name: "sha256_password_public_key_path", Value: rsaPublic(p)},
		{Name: "persisted_globals_load", Value: "OFF"}, // SET PERSIST would win over what the service sets
	}
}

// bare are arguments of runs without a configuration.
var bare = []string{
	"--mysqlx=OFF", "--auto-generate-certs=OFF", "--caching-sha2-password-auto-generate-rsa-keys=OFF", "--sha256-password-auto-generate-rsa-keys=OFF",
	"--secure-file-priv=NULL",
}

// forbidden has beside the fixed options what would keep the server from starting on the data that there is, without a trial noticing.
var forbidden = []string{
	"admin_address", "admin_port", "admin_ssl_ca", "admin_ssl_capath", "admin_ssl_cert", "admin_ssl_crl", "admin_ssl_crlpath", "admin_ssl_key",
	"admin_tls_version", "authentication_policy", "auto_generate_certs", "caching_sha2_password_auto_generate_rsa_keys",
	"caching_sha2_password_private_key_path", "caching_sha2_password_public_key_path", "character_sets_dir", "disable_log_bin", "early_plugin_load",
	"init_replica", "init_slave", "initialize", "initialize_insecure", "innodb_dedicated_server", "innodb_directories",
	"innodb_doublewrite_dir", "innodb_page_size", "innodb_redo_log_archive_dirs", "innodb_temp_tablespaces_dir", "log_error_services",
	"lower_case_table_names", "mandatory_roles", "mysqlx", "no_monitor", "persist_only_admin_x509_subject", "persist_sensitive_variables_in_plaintext",
	"persisted_globals_load", "replica_load_tmpdir", "sha256_password_auto_generate_rsa_keys", "sha256_password_private_key_path",
	"sha256_password_public_key_path", "slave_load_tmpdir", "tls_certificates_enforced_validation", "tls_version", "upgrade", "validate_config",
}

func systemTables(p mysqlfamily.Place, dir string) (string, []string) {
	return server, append([]string{
		"--no-defaults", "--initialize-insecure", "--basedir=" + p.Program("usr"), "--datadir=" + dir, "--tmpdir=" + p.TmpDir(), "--skip-log-bin",
	}, bare...)
}

func rsaKey(p mysqlfamily.Place) string    { return filepath.Join(p.RuntimeDir(), "rsa.key") }
func rsaPublic(p mysqlfamily.Place) string { return filepath.Join(p.RuntimeDir(), "rsa.pub") }

// ensureRSA makes the keys that clients without TLS encrypt their password with. They are in the tmpfs, so that no copy of a volume has them. The public one
// comes last, as the sign that both are there.
func ensureRSA(p mysqlfamily.Place) error {
	if there, err := guestfiles.Exists(rsaPublic(p)); err != nil || there {
		return err
	}
	const bits = 2048 // the server's own
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return fmt.Errorf("make an RSA key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("make an RSA key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("make an RSA key: %w", err)
	}
	if err := p.WriteFile(rsaKey(p), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return p.WriteFile(rsaPublic(p), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

var (
	pluginPattern = regexp.MustCompile(`^[a-z0-9_]+$`)
	hexPattern    = regexp.MustCompile(`^[0-9A-F]*$`)
)

// restored puts back what Auth read, which is in hexadecimal.
func restored(plugin, auth string) (string, bool) {
	if !pluginPattern.MatchString(plugin) || !hexPattern.MatchString(auth) {
		return "", false
	}
	if auth == "" {
		return " IDENTIFIED WITH " + plugin, true
	}
	return " IDENTIFIED WITH " + plugin + " AS 0x" + auth, true
}

var kinds = map[string]mysqlfamily.VariableKind{
	"Integer": mysqlfamily.KindInteger, "Numeric": mysqlfamily.KindFloat, "Boolean": mysqlfamily.KindBoolean, "Set": mysqlfamily.KindFlags,
}

// initLines are prepared statements where the text has what the server's reader of init files could take for a quote, an escape or a comment: it does not
// know that backticks end these.
func initLines(statement string) []string {
	if !strings.Contains(statement, "`") || !strings.ContainsAny(statement, "'\"\\#-/;") {
		return []string{statement}
	}
	return []string{"SET @trove = CONVERT(X'" + hex.EncodeToString([]byte(statement)) + "' USING utf8mb4)", "PREPARE trove FROM @trove", "EXECUTE trove", "DEALLOCATE PREPARE trove"}
}

// errReadOnly is the server's for a variable that cannot be set while it runs.
const errReadOnly = 1238

// readVariables asks for types and values. Nothing tells which variables can be set while the server runs, so each is set to the value that it has.
func readVariables(ctx context.Context, db *sql.Conn, names []string) (map[string]mysqlfamily.Variable, error) {
	known := map[string]mysqlfamily.Variable{}
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	err := mysqlfamily.Texts(ctx, db, 3, func(v []string) {
		known[v[0]] = mysqlfamily.Variable{Kind: kinds[v[1]], Global: v[2]}
	}, `SELECT LOWER(VARIABLE_NAME), DATA_TYPE, COALESCE(VARIABLE_VALUE, '') FROM performance_schema.variables_metadata JOIN performance_schema.global_variables
USING (VARIABLE_NAME) WHERE VARIABLE_SCOPE <> 'SESSION_ONLY' AND LOWER(VARIABLE_NAME) IN (?`+strings.Repeat(",?", len(names)-1)+`)`, args...)
	if err != nil {
		return nil, err
	}
	for name, v := range known { // names that the server gave
		if strings.HasPrefix(name, "character_set_") || strings.HasPrefix(name, "collation_") {
			continue // they can all be set, and setting one changes another
		}
		err := mysqlfamily.Exec(ctx, db, "SET GLOBAL "+name+" = @@GLOBAL."+name)
		refused, isServers := errors.AsType[*mysql.MySQLError](err)
		if err != nil && !isServers {
			return nil, err
		}
		v.Static = isServers && refused.Number == errReadOnly
		known[name] = v
	}
	return known, nil
}
