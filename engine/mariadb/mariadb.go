// Package mariadb drives a MariaDB server inside a guest: package mysqlfamily with what is MariaDB's own.
package mariadb

import (
	"context"
	"crypto/sha1" //nolint:gosec // mysql_native_password is defined with it; every client speaks it
	"database/sql"
	_ "embed" // the rules
	"encoding/hex"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/mysqlfamily"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Manager is the driver's name in a datastore version.
const Manager = "mariadb"

// Engine is the driver.
type Engine struct{ *mysqlfamily.Engine }

// New returns the driver.
func New(log *slog.Logger, clk clock.Clock) *Engine {
	return &Engine{mysqlfamily.New(product(), log, clk)}
}

// rulesFile has the rules of MariaDB 10.11 and 11.8: every one of Trove's that the server knows and a user may set, with the limits that the server has,
// and more. TestRulesAreThoseOfTheServer compares them with it.
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

func product() *mysqlfamily.Product {
	return &mysqlfamily.Product{
		Manager: Manager, Client: []string{"mariadb"}, Server: "usr/sbin/mariadbd", Group: "mariadbd",
		OwnUsers: []string{"mariadb.sys"}, ReservedUsers: []string{"mariadb.sys", "mysql", "trove_admin", "os_admin"},
		MaxUserName: 80, MaxHost: 60,

		Rules: rules(), Derived: derived, Fixed: fixed, Shown: fixed(mysqlfamily.Place{}), Forbidden: forbidden,
		Variables: []string{
			"character_set_client", "character_set_connection", "character_set_database", "character_set_results", "collation_connection", "collation_database",
			"time_zone", "tx_isolation",
		},
		StartsOnly: []string{"innodb_buffer_pool_size"}, // since 10.11.12 it cannot grow beyond what the server began with
		Session: map[string]string{
			"sql_mode":          "'STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION'", // the text of our statements means the same under every global one
			"lock_wait_timeout": "30", "max_statement_time": "0", "autocommit": "1", "sql_safe_updates": "0", "max_join_size": "18446744073709551615",
			"tmp_memory_table_size": "16777216", "tmp_disk_table_size": "18446744073709551615",
		},

		SystemTables: systemTables, UpgradeProgram: "usr/bin/mariadb-upgrade", Leftovers: []string{"ibtmp1", "ib_buffer_pool", "tc.log"},
		TrialArgs: func(dir string) []string {
			return []string{"--datadir=" + dir, "--skip-log-error", "--verbose", "--help"}
		},
		Complaint: regexp.MustCompile(`(?m)\[ERROR\] (?:[^\n]*?mariadbd: |Buffered error: )*([^\n]+)`),

		Hash:       func(password trove.Secret) (string, error) { return passwordHash(password), nil },
		Identified: func(hash string) string { return " IDENTIFIED VIA mysql_native_password USING '" + hash + "'" },
		BySocket:   " IDENTIFIED VIA unix_socket", Restored: restored, CreateOrReplace: true,
		SQL: queries, ReadVariables: readVariables,
		TLSOff: mysqlfamily.Option{Name: "ssl", Value: "OFF"}, ReloadTLS: "FLUSH SSL",
	}
}

// certificate is what an account must show. 0: nothing, 1: it speaks TLS, 2: a certificate, 3: one by a rule of its own.
const certificate = "COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0)"

const accounts = "SELECT User, Host FROM mysql.global_priv WHERE NOT COALESCE(JSON_VALUE(Priv, '$.is_role'), 0)"

var queries = mysqlfamily.Queries{
	Accounts: accounts,
	Auth: `SELECT COALESCE(JSON_VALUE(Priv, '$.plugin'), ''), COALESCE(JSON_VALUE(Priv, '$.authentication_string'), '')
FROM mysql.global_priv WHERE User = ? AND Host = ?`,
	Unproven: accounts + " AND Host <> 'localhost' AND " + certificate + " < 2",
	Proven:   accounts + " AND Host <> 'localhost' AND " + certificate + " = 2",
	Drifted: `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, COALESCE(GLOBAL_VALUE, '') FROM information_schema.SYSTEM_VARIABLES
WHERE GLOBAL_VALUE_ORIGIN = 'SQL' ORDER BY 1`,
	TLS: "SELECT @@global.have_ssl = 'YES', COALESCE(@@global.ssl_ca, '')",
}

func derived(ram int) []mysqlfamily.Option {
	return []mysqlfamily.Option{
		{Name: "aria_pagecache_buffer_size", Value: mysqlfamily.MiB(min(max(8, ram/32), 128))},
		{Name: "collation_server", Value: "utf8mb4_general_ci"},
		{Name: "performance_schema", Value: "OFF"}, // 44 ms of each start, and memory; asked for by an override
	}
}

func fixed(mysqlfamily.Place) []mysqlfamily.Option {
	return []mysqlfamily.Option{{Name: "symbolic_links", Value: "OFF"}}
}

var forbidden = []string{
	"bootstrap", "extra_port", "init_rpl_role", "init_slave", "install", "log_basename", "relay_log_info_file", "slave_load_tmpdir", "wsrep_provider",
}

func systemTables(p mysqlfamily.Place, dir string) (string, []string) {
	return "usr/bin/mariadb-install-db", []string{
		"--no-defaults", "--basedir=" + p.Program("usr"), "--datadir=" + dir, "--tmpdir=" + p.TmpDir(), "--force", "--skip-test-db",
		"--skip-name-resolve", "--auth-root-authentication-method=socket", "--auth-root-socket-user=root", "--skip-log-bin",
	}
}

// passwordHash returns what mysql_native_password keeps: the server can check a password with it, nobody can read it from there.
func passwordHash(password trove.Secret) string {
	first := sha1.Sum([]byte(password.Reveal())) //nolint:gosec // as above
	second := sha1.Sum(first[:])                 //nolint:gosec // as above
	return "*" + strings.ToUpper(hex.EncodeToString(second[:]))
}

var pluginPattern = regexp.MustCompile(`^[a-z0-9_]+$`)

// authPattern is every text that an authentication plugin of this server keeps: hashes and keys in hexadecimal or base64.
var authPattern = regexp.MustCompile(`^[A-Za-z0-9+/=*$.]*$`)

func restored(plugin, auth string) (string, bool) {
	if !pluginPattern.MatchString(plugin) || !authPattern.MatchString(auth) {
		return "", false
	}
	if auth == "" {
		return " IDENTIFIED VIA " + plugin, true
	}
	return " IDENTIFIED VIA " + plugin + " USING '" + auth + "'", true
}

func readVariables(ctx context.Context, db *sql.Conn, names []string) (map[string]mysqlfamily.Variable, error) {
	known := map[string]mysqlfamily.Variable{}
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	err := mysqlfamily.Texts(ctx, db, 4, func(v []string) {
		known[v[0]] = mysqlfamily.Variable{Kind: kind(v[1]), Global: v[2], Static: v[3] == "YES"}
	}, `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, COALESCE(GLOBAL_VALUE, ''), READ_ONLY FROM information_schema.SYSTEM_VARIABLES
WHERE VARIABLE_SCOPE <> 'SESSION ONLY' AND LOWER(VARIABLE_NAME) IN (?`+strings.Repeat(",?", len(names)-1)+`)`, args...)
	return known, err
}

// kind reads the column VARIABLE_TYPE.
func kind(text string) mysqlfamily.VariableKind {
	switch {
	case text == "DOUBLE":
		return mysqlfamily.KindFloat
	case strings.Contains(text, "INT"):
		return mysqlfamily.KindInteger
	case text == "BOOLEAN":
		return mysqlfamily.KindBoolean
	case text == "FLAGSET":
		return mysqlfamily.KindFlags
	}
	return mysqlfamily.KindText
}
