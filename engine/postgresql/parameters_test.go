package postgresql_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

// setting is a row of the server's own list.
type setting struct{ value, context, kind, low, high, enum string }

func readServer(t *testing.T, c *pgconn.PgConn) map[string]setting {
	t.Helper()
	out, err := ask(t, c, `SELECT lower(name) || chr(1) || setting || chr(1) || context || chr(1) || vartype || chr(1) || COALESCE(min_val, '') || chr(1) ||
		COALESCE(max_val, '') || chr(1) || COALESCE(array_to_string(enumvals, ','), '') FROM pg_settings WHERE setting !~ E'\n'`)
	must(t, err)
	all := map[string]setting{}
	for line := range strings.SplitSeq(out, "\n") {
		f := strings.Split(line, "\x01")
		all[f[0]] = setting{value: f[1], context: f[2], kind: f[3], low: f[4], high: f[5], enum: f[6]}
	}
	return all
}

// rules are those of the version whose server this is.
func rules(t *testing.T) []trove.Parameter {
	t.Helper()
	major, err := postgresql.Major("")
	must(t, err)
	return newEngine().ParametersOf(strconv.Itoa(major))
}

// troves are parameters that OpenStack Trove ships rules for and that this service leaves to users.
var troves = strings.Fields(`max_connections shared_buffers work_mem maintenance_work_mem max_wal_size min_wal_size checkpoint_timeout effective_cache_size
random_page_cost wal_buffers default_statistics_target autovacuum log_min_duration_statement statement_timeout deadlock_timeout max_worker_processes
max_prepared_transactions temp_buffers wal_level synchronous_commit vacuum_cost_delay autovacuum_max_workers log_statement timezone search_path`)

func TestRulesAreThoseOfTheServer(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	enginetest.Start(t, s)
	server, all := readServer(t, client(t, s.Layout, "postgres", "pw-root", "")), rules(t)
	for _, name := range troves {
		if _, ok := trove.FindParameter(all, name); !ok {
			t.Errorf("the parameter %s is missing", name)
		}
	}
	kinds := map[string]trove.ParameterType{
		"bool": trove.ParameterBoolean, "integer": trove.ParameterInteger, "real": trove.ParameterFloat, "string": trove.ParameterString, "enum": trove.ParameterString,
	}
	for _, p := range all {
		v, ok := server[p.Name]
		if !ok {
			t.Errorf("%s: the server has no such parameter", p.Name)
			continue
		}
		if p.Type != kinds[v.kind] || p.RestartRequired != (v.context == "postmaster") || string(p.Min) != v.low || string(p.Max) != v.high {
			t.Errorf("%s: %+v, the server says %+v", p.Name, p, v)
		}
		if slices.Contains(postgresql.Forbidden, p.Name) {
			t.Errorf("%s has a rule, and cannot be set", p.Name)
		}
	}
}

// texts are values for parameters that are texts.
var textValues = map[string]string{
	"application_name": "some name", "client_encoding": "UTF8", "createrole_self_grant": "set", "datestyle": "German, DMY", "default_table_access_method": "heap",
	"default_text_search_config": "pg_catalog.simple", "lc_messages": "C", "lc_monetary": "C.UTF-8", "lc_numeric": "C.UTF-8", "lc_time": "C.UTF-8", "log_connections": "authentication",
	"log_timezone": "Europe/Berlin", "search_path": `"$user", public, x`, "timezone": "Asia/Tokyo", "timezone_abbreviations": "India",
}

// other is a value that a rule allows and that is not the one that the server has; nil: there is none that this test could live with.
func other(t *testing.T, p trove.Parameter, now setting) json.RawMessage {
	t.Helper()
	switch now.kind {
	case "bool":
		return json.RawMessage(map[string]string{"on": "false", "off": "true"}[now.value])
	case "enum":
		for each := range strings.SplitSeq(now.enum, ",") {
			if each != now.value {
				return json.RawMessage(strconv.Quote(each))
			}
		}
		return nil
	case "string":
		if v, ok := textValues[p.Name]; ok {
			return json.RawMessage(strconv.Quote(v))
		}
		t.Errorf("%s: the test has no value for it", p.Name)
		return nil
	}
	high, err := strconv.ParseFloat(now.high, 64)
	must(t, err)
	low, err := strconv.ParseFloat(now.low, 64)
	must(t, err)
	v, err := strconv.ParseFloat(now.value, 64)
	must(t, err)
	next := max(v, low, 0) + 1
	if now.kind == "real" && high <= 2 {
		if next = low; next == v {
			next = (low + high) / 2
		}
	}
	if strings.HasSuffix(p.Name, "_buffers") && p.Name != "wal_buffers" && p.Name != "shared_buffers" && p.Name != "temp_buffers" {
		next = 64 // the server takes whole pages of 16
	}
	if next > high {
		next = v - 1
	}
	return json.RawMessage(strconv.FormatFloat(next, 'f', -1, 64))
}

// TestEveryParameterCanBeSetAndSurvivesARestart sets all of them at once, to other values.
func TestEveryParameterCanBeSetAndSurvivesARestart(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	srv := enginetest.Start(t, s)
	e := newEngine()
	read := func() map[string]setting { return readServer(t, client(t, s.Layout, "postgres", "pw-root", "")) }
	before := read()
	overrides := map[string]json.RawMessage{}
	for _, p := range rules(t) {
		v := other(t, p, before[p.Name])
		if v == nil {
			continue
		}
		if err := p.Check(v); err != nil {
			t.Errorf("%s = %s: %v", p.Name, v, err)
		}
		switch p.Name {
		case "statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout", "deadlock_timeout",
			"default_transaction_read_only", "log_statement_stats", "log_parser_stats", "log_planner_stats", "log_executor_stats", "wal_level", "max_wal_senders",
			"summarize_wal", "client_connection_check_interval", "min_wal_size", "row_security", "application_name", "client_encoding", "default_table_access_method":
			continue // they keep this test's own client out, exclude each other, or are the client's
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
	live := read()
	srv.Stop()
	srv = enginetest.Start(t, s)
	restarted := read()
	for name := range overrides {
		p, _ := trove.FindParameter(rules(t), name)
		if !p.RestartRequired && restarted[name].value != live[name].value {
			t.Errorf("%s = %s: %s at once, %s after a restart", name, overrides[name], live[name].value, restarted[name].value)
		}
		if restarted[name].value == before[name].value {
			t.Errorf("%s = %s: it is still %s", name, overrides[name], before[name].value)
		}
	}
	if waiting, err = e.Apply(t.Context(), s.Layout, overrides); err != nil || len(waiting) > 0 {
		t.Errorf("Apply() after the restart = %v, %v", waiting, err)
	}
	_, err = e.Apply(t.Context(), s.Layout, nil)
	must(t, err)
	srv.Stop()
	enginetest.Start(t, s)
	again := read()
	for name := range overrides {
		if again[name].value != before[name].value {
			t.Errorf("%s is %s in the end, was %s", name, again[name].value, before[name].value)
		}
	}
}

func TestAppliesAreTogetherOrNot(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	for name, bad := range map[string]string{
		"zero_damaged_page": "true", "timezone": `"Nowhere"`, "work_mem": "63", "autovacuum": `"perhaps"`, "default_text_search_config": `"klingon"`,
	} {
		_, err := newEngine().Apply(t.Context(), s.Layout, map[string]json.RawMessage{
			"cpu_tuple_cost": json.RawMessage("0.5"), "vacuum_cost_limit": json.RawMessage("300"), name: json.RawMessage(bad),
		})
		if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(strings.ToLower(trove.MessageOf(err)), name) {
			t.Errorf("Apply() = %v, want the parameter %s named that is refused", err, name)
		}
		wantAnswer(t, client(t, s.Layout, "alice", "pw-a", "shop"), "SHOW cpu_tuple_cost", "0.01")
	}
}

// TestValuesThatTheMachineHasNoMemoryForAreRefused: the server would not start, or the kernel would end it again and again.
func TestValuesThatTheMachineHasNoMemoryForAreRefused(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	for value, ok := range map[string]bool{"16384": true, "40960": true, "65536": false, "1073741823": false} {
		_, err := newEngine().Apply(t.Context(), s.Layout, map[string]json.RawMessage{"shared_buffers": json.RawMessage(value)})
		if (err == nil) != ok || !ok && trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("shared_buffers of %s blocks in 512 MiB: %v", value, err)
		}
	}
	both := map[string]json.RawMessage{"wal_level": json.RawMessage(`"minimal"`)} // and max_wal_senders is 10
	if _, err := newEngine().Apply(t.Context(), s.Layout, both); trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "wal") {
		t.Errorf("a combination that the server does not start with: %v", err)
	}
}

// TestAgentIsNotBoundByWhatUsersSet sets what would end the agent's own statements or make them mean something else.
func TestAgentIsNotBoundByWhatUsersSet(t *testing.T) {
	s := prepared(t, shop())
	srv := enginetest.Start(t, s)
	ctx, e := t.Context(), newEngine()
	_, err := e.Apply(ctx, s.Layout, map[string]json.RawMessage{
		"statement_timeout": json.RawMessage("1"), "default_transaction_read_only": json.RawMessage("true"), "search_path": json.RawMessage(`"x"`),
		"standard_conforming_strings": json.RawMessage("false"), "datestyle": json.RawMessage(`"German"`), "client_encoding": json.RawMessage(`"LATIN1"`),
		"lock_timeout": json.RawMessage("1"), "idle_session_timeout": json.RawMessage("1"), "bytea_output": json.RawMessage(`"escape"`),
		"default_transaction_isolation": json.RawMessage(`"serializable"`), "quote_all_identifiers": json.RawMessage("true"),
	})
	must(t, err)
	for range 2 {
		must(t, e.CreateUser(ctx, s.Layout, trove.User{Name: `o'brien\ü`, Password: "p-1", Databases: []string{"shop"}}))
		users, err := e.Users(ctx, s.Layout)
		if err != nil || len(users) != 3 || users[2].Name != `o'brien\ü` {
			t.Errorf("Users() = %v, %v", users, err)
		}
		must(t, e.DropUser(ctx, s.Layout, `o'brien\ü`, ""))
		srv.Stop()
		srv = enginetest.Start(t, s)
	}
	var _ engine.Configurable = e
}
