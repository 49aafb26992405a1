package mariadb_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"math/big"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/mariadb"
)

// serverVariable is a row of the server's own list.
type serverVariable struct {
	kind      string
	min, max  sql.NullString
	readOnly  bool
	argument  bool // the list says that it is an option, too
	global    string
	isDefault string
}

func readServer(t *testing.T, db *sql.DB) map[string]serverVariable {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, READ_ONLY='YES',
COMMAND_LINE_ARGUMENT IS NOT NULL, COALESCE(GLOBAL_VALUE,''), COALESCE(DEFAULT_VALUE,'') FROM information_schema.SYSTEM_VARIABLES`)
	must(t, err)
	defer func() { _ = rows.Close() }()
	all := map[string]serverVariable{}
	for rows.Next() {
		var name string
		var v serverVariable
		must(t, rows.Scan(&name, &v.kind, &v.min, &v.max, &v.readOnly, &v.argument, &v.global, &v.isDefault))
		all[name] = v
	}
	must(t, rows.Err())
	return all
}

// troves are the rules that OpenStack Trove ships for MariaDB. Of these the server of 10.11 has no innodb_thread_concurrency, and the service sets
// server_id.
var troves = strings.Fields(`auto_increment_increment auto_increment_offset autocommit bulk_insert_buffer_size character_set_client character_set_connection
character_set_database character_set_filesystem character_set_results character_set_server collation_connection collation_database collation_server
connect_timeout expire_logs_days innodb_buffer_pool_size innodb_file_per_table innodb_flush_log_at_trx_commit innodb_flush_method innodb_log_buffer_size
innodb_log_file_size innodb_open_files interactive_timeout join_buffer_size key_buffer_size local_infile long_query_time lower_case_table_names
max_allowed_packet max_connect_errors max_connections max_prepared_stmt_count max_user_connections myisam_sort_buffer_size performance_schema
sort_buffer_size sync_binlog wait_timeout`)

func TestRulesAreThoseOfTheServer(t *testing.T) {
	s := prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "alice-password"}}})
	enginetest.Start(t, s)
	server := readServer(t, client(t, s.Layout, "alice", "alice-password", ""))
	rules := rules(t)
	for _, name := range troves {
		if _, ok := trove.FindParameter(rules, name); !ok {
			t.Errorf("Trove's parameter %s is missing", name)
		}
	}
	integers := []string{"autocommit", "innodb_file_per_table", "local_infile", "expire_logs_days"} // numbers in Trove's rules
	for _, p := range rules {
		v, ok := server[p.Name]
		if !ok {
			t.Errorf("%s: the server has no such variable", p.Name)
			continue
		}
		if p.RestartRequired != (v.readOnly || p.Name == "innodb_buffer_pool_size") {
			t.Errorf("%s: restart_required is %t, the server's variable is read only: %t", p.Name, p.RestartRequired, v.readOnly)
		}
		want := trove.ParameterString
		switch {
		case slices.Contains(integers, p.Name) || strings.Contains(v.kind, "INT"):
			want = trove.ParameterInteger
		case v.kind == "BOOLEAN":
			want = trove.ParameterBoolean
		case v.kind == "DOUBLE":
			want = trove.ParameterFloat
		}
		if p.Type != want {
			t.Errorf("%s: type %s, the server's is %s", p.Name, p.Type, v.kind)
		}
		if v.max.Valid && (beyond(t, string(p.Max), v.max.String) > 0 || beyond(t, v.min.String, string(p.Min)) > 0 && p.Name != "max_user_connections") {
			t.Errorf("%s: %s to %s, the server takes %s to %s", p.Name, p.Min, p.Max, v.min.String, v.max.String)
		}
	}
}

// rules are those for the version of the server's programs.
func rules(t *testing.T) []trove.Parameter {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "/usr/sbin/mariadbd", "--version").Output()
	must(t, err)
	version := regexp.MustCompile(`Ver ([0-9.]+)-MariaDB`).FindSubmatch(out)
	if version == nil {
		t.Fatalf("%s has no version", out)
	}
	return newEngine().ParametersOf(string(version[1]))
}

func beyond(t *testing.T, a, b string) int {
	t.Helper()
	x, ok1 := new(big.Rat).SetString(a)
	y, ok2 := new(big.Rat).SetString(b)
	if !ok1 || !ok2 {
		t.Fatalf("%q or %q is no number", a, b)
	}
	return x.Cmp(y)
}

// value makes a value that a rule allows and that is not the one that the server has.
func value(p trove.Parameter, now serverVariable) json.RawMessage {
	switch p.Type {
	case trove.ParameterInteger, trove.ParameterFloat:
		text := string(p.Min)
		if now.global == text || p.Name == "max_allowed_packet" {
			text = string(p.Max)
		}
		switch {
		case p.Name == "autocommit" || p.Name == "innodb_file_per_table" || p.Name == "local_infile":
			text = map[string]string{"ON": "0", "OFF": "1"}[now.global]
		case strings.HasPrefix(p.Name, "performance_schema_") && text == string(p.Max): // gigabytes, all of them touched at each start
			text = "100"
		case len(text) > 8: // more than this machine has
			text = now.global
		}
		return json.RawMessage(text)
	case trove.ParameterBoolean:
		return json.RawMessage(map[string]string{"ON": "false", "OFF": "true"}[now.global])
	}
	return nil
}

// texts are values for the parameters that are texts.
var textValues = map[string]string{
	"aria_stats_method": "nulls_equal", "character_set_client": "utf8mb3", "character_set_connection": "utf8mb3", "character_set_database": "latin1",
	"character_set_filesystem": "utf8mb3", "character_set_results": "utf8mb3", "character_set_server": "utf8mb4", "collation_connection": "utf8mb3_bin",
	"collation_database": "latin1_bin", "collation_server": "utf8mb4_bin", "default_storage_engine": "Aria", "event_scheduler": "ON",
	"ft_boolean_syntax": "+ -><()~*:\"\"&^", "innodb_default_row_format": "compact", "innodb_flush_method": "fsync", "innodb_stats_method": "nulls_unequal",
	"lc_time_names": "de_DE", "log_slow_filter": "admin", "log_slow_verbosity": "query_plan", "myisam_stats_method": "nulls_equal",
	"optimizer_adjust_secondary_key_costs": "disable_max_seek", "optimizer_switch": "mrr=on", "query_cache_type": "DEMAND", "sql_mode": "ANSI,NO_BACKSLASH_ESCAPES", "thread_handling": "pool-of-threads",
	"time_zone": "+02:00", "tx_isolation": "READ-COMMITTED", "use_stat_tables": "NEVER",
}

// TestEveryParameterCanBeSetAndSurvivesARestart sets all of them at once, some with their smallest value.
func TestEveryParameterCanBeSetAndSurvivesARestart(t *testing.T) {
	s := prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "alice-password"}}})
	srv := enginetest.Start(t, s)
	db := client(t, s.Layout, "alice", "alice-password", "")
	e := newEngine()
	before := readServer(t, db)
	overrides := map[string]json.RawMessage{}
	for _, p := range rules(t) {
		v := value(p, before[p.Name])
		if text, ok := textValues[p.Name]; ok {
			v = json.RawMessage(strconv.Quote(text))
		}
		if v == nil {
			t.Errorf("%s: the test has no value for it", p.Name)
			continue
		}
		if err := p.Check(v); err != nil {
			t.Errorf("%s=%s: %v", p.Name, v, err)
		}
		switch p.Name {
		case "require_secure_transport", "innodb_buffer_pool_size", "max_user_connections", "max_statement_time", "max_connections", "max_join_size", "tmp_disk_table_size":
			continue // of these the smallest value keeps the test out
		}
		overrides[p.Name] = v
	}
	waiting, err := e.Apply(t.Context(), s.Layout, overrides)
	must(t, err)
	for _, p := range rules(t) {
		if _, set := overrides[p.Name]; set && p.RestartRequired != slices.Contains(waiting, p.Name) {
			t.Errorf("%s: restart_required is %t, it waits for a restart: %t", p.Name, p.RestartRequired, slices.Contains(waiting, p.Name))
		}
	}
	live := readServer(t, db)
	srv.Stop()
	srv = enginetest.Start(t, s)
	db = client(t, s.Layout, "alice", "alice-password", "")
	restarted := readServer(t, db)
	for name := range overrides {
		if p, _ := trove.FindParameter(rules(t), name); !p.RestartRequired && restarted[name].global != live[name].global {
			t.Errorf("%s=%s: %s at once, %s after a restart", name, overrides[name], live[name].global, restarted[name].global)
		}
	}
	if waiting, err = e.Apply(t.Context(), s.Layout, overrides); err != nil || len(waiting) > 0 {
		t.Errorf("Apply() after the restart = %v, %v", waiting, err)
	}
	_, err = e.Apply(t.Context(), s.Layout, nil)
	must(t, err)
	srv.Stop()
	enginetest.Start(t, s)
	db = client(t, s.Layout, "alice", "alice-password", "")
	again := readServer(t, db)
	for name := range overrides {
		if again[name].global != before[name].global {
			t.Errorf("%s is %s in the end, was %s", name, again[name].global, before[name].global)
		}
	}
}

// TestAppliesAreTogetherOrNot sets a good and a bad value in both orders of their names.
func TestAppliesAreTogetherOrNot(t *testing.T) {
	s := prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: "alice-password"}}})
	enginetest.Start(t, s)
	db := client(t, s.Layout, "alice", "alice-password", "")
	before := readServer(t, db)
	_, err := newEngine().Apply(t.Context(), s.Layout, map[string]json.RawMessage{
		"connect_timeout": json.RawMessage("33"), "max_connections": json.RawMessage("5"), "optimizer_switch": json.RawMessage(`"mrr=on"`),
		"sort_buffer_size": json.RawMessage("65536"),
	})
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "max_connections") {
		t.Fatalf("Apply() = %v, want the parameter named that is refused", err)
	}
	after := readServer(t, db)
	for _, name := range []string{"connect_timeout", "max_connections", "optimizer_switch", "sort_buffer_size"} {
		if before[name].global != after[name].global {
			t.Errorf("%s is %s, was %s", name, after[name].global, before[name].global)
		}
	}
}

func TestBufferPoolBeyondTheMemoryIsRefused(t *testing.T) {
	for value, want := range map[string]trove.Kind{"536870912": 0, "536870913": trove.KindBadRequest, `"513M"`: trove.KindBadRequest} {
		s := setup(t)
		err := s.Engine.Configure(t.Context(), s.Layout, engine.Settings{
			RAM: 512, Overrides: map[string]json.RawMessage{"innodb_buffer_pool_size": json.RawMessage(value)},
		})
		if (err != nil) != (want != 0) || err != nil && trove.KindOf(err) != want {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// TestAgentIsNotBoundByGlobalVariables sets what would end the agent's own statements.
func TestAgentIsNotBoundByGlobalVariables(t *testing.T) {
	s := prepared(t, engine.Preparation{})
	srv := enginetest.Start(t, s)
	ctx, e := t.Context(), newEngine()
	_, err := e.Apply(ctx, s.Layout, map[string]json.RawMessage{
		"max_statement_time": json.RawMessage("0.000001"), "autocommit": json.RawMessage("0"), "sql_safe_updates": json.RawMessage("true"),
		"max_join_size": json.RawMessage("1"), "max_prepared_stmt_count": json.RawMessage("0"), "tmp_disk_table_size": json.RawMessage("1024"),
		"tmp_memory_table_size": json.RawMessage("0"), "sql_mode": json.RawMessage(`"ANSI_QUOTES,NO_BACKSLASH_ESCAPES"`), "require_secure_transport": json.RawMessage("true"),
		"idle_transaction_timeout": json.RawMessage("1"), "lock_wait_timeout": json.RawMessage("0"), "wait_timeout": json.RawMessage("1"),
		"time_zone": json.RawMessage(`"+05:00"`), "character_set_client": json.RawMessage(`"latin1"`),
	})
	must(t, err)
	for range 2 {
		must(t, e.CreateUser(ctx, s.Layout, trove.User{Name: `o'brien\`, Password: "p-1", Databases: []string{"shop"}}))
		users, err := e.Users(ctx, s.Layout)
		if err != nil || len(users) != 1 || users[0].Name != `o'brien\` {
			t.Errorf("Users() = %v, %v", users, err)
		}
		must(t, e.DropUser(ctx, s.Layout, `o'brien\`, ""))
		srv.Stop()
		srv = enginetest.Start(t, s)
	}
}

func TestFirstStartHasTheOverrides(t *testing.T) {
	p := engine.Preparation{
		Users: []trove.User{{Name: "alice", Password: "alice-password", Databases: []string{"shop"}}}, Databases: []trove.Database{{Name: "shop"}},
		Settings: engine.Settings{Overrides: map[string]json.RawMessage{
			"max_connections": json.RawMessage("77"), "time_zone": json.RawMessage(`"+03:00"`), "performance_schema": json.RawMessage("true"),
		}},
	}
	s := prepared(t, p)
	enginetest.Start(t, s)
	v := readServer(t, client(t, s.Layout, "alice", "alice-password", "shop"))
	for name, want := range map[string]string{"max_connections": "77", "time_zone": "+03:00", "performance_schema": "ON"} {
		if v[name].global != want {
			t.Errorf("%s = %s, want %s", name, v[name].global, want)
		}
	}
	p.Settings.Overrides = map[string]json.RawMessage{"innodb_flush_method": json.RawMessage(`"nonsense"`)}
	bad := setup(t)
	fill(t, bad.Layout)
	err := bad.Engine.Prepare(context.WithoutCancel(t.Context()), bad.Layout, p)
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "nonsense") {
		t.Errorf("Prepare() = %v, want the value refused that the server would not start with", err)
	}
}

var _ engine.Configurable = (*mariadb.Engine)(nil)
