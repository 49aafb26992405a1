package redistest

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// rulesOfTheServer compares every rule with the running server: the name, whether it waits for a restart, and both ends of its range.
func rulesOfTheServer(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	c := adminConn(t, s)
	rules := s.Engine.(engine.Configurable).Parameters()
	if len(rules) < 50 {
		t.Errorf("there are %d rules: the file was not read", len(rules))
	}
	for _, r := range rules {
		values, err := redis.StringMap(c.Do("CONFIG", "GET", r.Name))
		must(t, err)
		value, known := values[r.Name]
		if !known {
			t.Errorf("the server has no parameter %s", r.Name)
			continue
		}
		_, err = c.Do("CONFIG", "SET", r.Name, value)
		if immutable := err != nil && strings.Contains(err.Error(), "immutable"); immutable != r.RestartRequired || err != nil && !immutable {
			t.Errorf("%s: restart required %t, the server says %v", r.Name, r.RestartRequired, err)
		}
		if (r.Type == trove.ParameterBoolean) != (value == "yes" || value == "no") {
			t.Errorf("%s has the type %s and the value %s", r.Name, r.Type, value)
		}
		if r.RestartRequired || r.Name == "maxclients" || r.Name == "maxmemory" { // the former would shut the test out, the latter is the flavor's
			continue
		}
		for _, end := range []json.Number{r.Min, r.Max} {
			if end == "" {
				continue
			}
			if _, err := c.Do("CONFIG", "SET", r.Name, end.String()); err != nil {
				t.Errorf("%s = %s, an end of its range: %v", r.Name, end, err)
			}
		}
		_, err = c.Do("CONFIG", "SET", r.Name, value)
		must(t, err)
	}
}

// another returns a value that a parameter does not have.
func another(r trove.Parameter, now string) string {
	texts := map[string]string{
		"appendfsync": "always", "client-output-buffer-limit": "normal 1048576 0 0", "loglevel": "verbose", "maxmemory-clients": "20%", "maxmemory-policy": "allkeys-lru",
		"notify-keyspace-events": "KEA", "save": "1800 5 60 1000",
	}
	switch {
	case r.Type == trove.ParameterString:
		return `"` + texts[r.Name] + `"`
	case r.Type == trove.ParameterBoolean && now == "yes":
		return "false"
	case r.Type == trove.ParameterBoolean:
		return "true"
	}
	numbers := map[string]string{"maxclients": "321", "maxmemory": "200000000", "client-query-buffer-limit": "2097152", "proto-max-bulk-len": "2097152", "io-threads": "2", "active-expire-effort": "5"}
	if n, ok := numbers[r.Name]; ok {
		return n
	}
	return "17"
}

// everyParameter sets each in the running server, restarts it with them, and takes all back.
func everyParameter(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	srv := enginetest.Start(t, s)
	e := s.Engine.(engine.Configurable)
	now := func() map[string]string {
		t.Helper()
		values, err := redis.StringMap(adminConn(t, s).Do("CONFIG", "GET", "*"))
		must(t, err)
		return values
	}
	before := now()
	overrides, static := map[string]json.RawMessage{}, []string(nil)
	for _, r := range e.Parameters() {
		if strings.Contains(r.Name, "ziplist") || r.Name == "lua-time-limit" {
			continue // another name of one that is set
		}
		overrides[r.Name] = json.RawMessage(another(r, before[r.Name]))
		if r.RestartRequired {
			static = append(static, r.Name)
		}
	}
	waiting, err := e.Apply(t.Context(), s.Layout, overrides)
	must(t, err)
	if !slices.Equal(waiting, static) {
		t.Errorf("%v wait for a restart, want %v", waiting, static)
	}
	live := now()
	srv.Stop()
	srv = enginetest.Start(t, s)
	restarted := now()
	for name := range overrides {
		if isStatic := slices.Contains(static, name); (live[name] == before[name]) != isStatic || restarted[name] == before[name] || !isStatic && restarted[name] != live[name] {
			t.Errorf("%s: %q before, %q at once, %q after a restart", name, before[name], live[name], restarted[name])
		}
	}
	if _, err := e.Apply(t.Context(), s.Layout, nil); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	enginetest.Start(t, s)
	for name, value := range now() {
		if value != before[name] {
			t.Errorf("%s: %q before all, %q after all", name, before[name], value)
		}
	}
}

func memoryOfTheFlavor(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	for value, good := range map[string]bool{"0": false, `"600mb"`: false, "536870913": false, "536870912": true, `"300mb"`: true, "1": true} {
		_, err := s.Engine.(engine.Configurable).Apply(t.Context(), s.Layout, map[string]json.RawMessage{"maxmemory": json.RawMessage(value)})
		if good != (err == nil) || !good && trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("maxmemory = %s: %v", value, err)
		}
	}
}

func metrics(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	source := s.Engine.(engine.MetricSource)
	if _, err := source.Metrics(t.Context(), s.Layout); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("Metrics() of a server that is down = %v, want Unavailable", err)
	}
	enginetest.Start(t, s)
	c := clientConn(t, s)
	for i := range 70 {
		_, err := c.Do("SELECT", i%16)
		must(t, err)
		_, err = c.Do("SET", "k", i, "EX", 1000)
		must(t, err)
	}
	_, err := c.Do("GET", "no-such-key")
	must(t, err)
	all, err := source.Metrics(t.Context(), s.Layout)
	must(t, err)
	got := map[string]float64{}
	for _, m := range all {
		name := m.Name + m.Labels["db"] + m.Labels["cmd"]
		if _, twice := got[name]; twice || m.Help == "" {
			t.Errorf("%s is there twice, or has no help", name)
		}
		got[name] = m.Value
	}
	for name, want := range map[string]float64{
		"redis_up": 1, "redis_db_keysdb0": 1, "redis_db_keysdb15": 1, "redis_db_keys_expiringdb0": 1, "redis_commands_totalset": 70, "redis_keyspace_misses_total": 1,
		"redis_aof_enabled": 1, "redis_aof_last_write_status": 1, "redis_loading_dump_file": 0, "redis_config_maxclients": 1024, "redis_memory_max_bytes": 321912832,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s = %v, %t, want %v", name, v, there, want)
		}
	}
	for _, name := range []string{
		"redis_connected_clients", "redis_memory_used_bytes", "redis_memory_used_rss_bytes", "redis_commands_processed_total", "redis_uptime_in_seconds",
		"redis_connections_received_total", "redis_net_input_bytes_total", "redis_cpu_user_seconds_total", "redis_aof_current_size_bytes",
		"redis_commands_duration_seconds_totalset", "redis_instance_info", "redis_slowlog_length", "redis_evicted_keys_total", "redis_rdb_last_bgsave_status",
	} {
		if _, there := got[name]; !there {
			t.Errorf("there is no %s", name)
		}
	}
}

func statements(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	c := clientConn(t, s)
	for range 50 {
		_, err := c.Do("EVAL", "for i = 1, 1000 do redis.call('SET', 'k' .. i, i) end", 0)
		must(t, err)
	}
	source := s.Engine.(engine.StatementSource)
	all, err := source.Statements(t.Context(), s.Layout, 2)
	must(t, err)
	if len(all) != 2 || all[0].Text != "EVAL" || all[0].Calls != 50 || all[0].Time < all[1].Time || all[1].Text != "SET" || all[1].Calls != 50000 {
		t.Errorf("Statements() = %+v", all)
	}
	if all, err := source.Statements(t.Context(), s.Layout, 1000); err != nil || !slices.ContainsFunc(all, func(s engine.Statement) bool { return s.Text == "CONFIG GET" || s.Text == "ECHO" }) {
		t.Errorf("Statements() = %+v, %v", all, err)
	}
}

func versions(t *testing.T, s enginetest.Setup) {
	ctx, l, u := t.Context(), s.Layout, s.Engine.(engine.Upgrader)
	programs, data, err := u.Versions(ctx, l)
	if err != nil || programs == "" || data != "" {
		t.Errorf("Versions() of an empty volume = %q, %q, %v", programs, data, err)
	}
	prepared(t, s, alice())
	srv := enginetest.Start(t, s)
	if again, data, err := u.Versions(ctx, l); err != nil || again != programs || data != programs {
		t.Errorf("Versions() = %q, %q, %v, want %s for both", again, data, err, programs)
	}
	srv.Stop()
	progress := func(string, int) {}
	for range 2 {
		must(t, u.Upgrade(ctx, l, "", progress))
	}
	version := func(v string) {
		t.Helper()
		kept, err := os.ReadFile(settingsFile(s.Engine, l))
		must(t, err)
		var k map[string]any
		must(t, json.Unmarshal(kept, &k))
		k["version"] = v
		kept, err = json.Marshal(k)
		must(t, err)
		must(t, os.WriteFile(settingsFile(s.Engine, l), kept, 0o600))
	}
	version("99.1.0")
	if err := u.Upgrade(ctx, l, "", progress); trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(err.Error(), "99.1.0") {
		t.Errorf("Upgrade() of the data of a newer version = %v, want BadRequest that names it", err)
	}
	version("1.0.0")
	must(t, u.Upgrade(ctx, l, "", progress))
	enginetest.Start(t, s)
	if done, err := u.FinishUpgrade(ctx, l, progress); err != nil || len(done) != 0 {
		t.Errorf("FinishUpgrade() = %v, %v", done, err)
	}
}

func upgradeChecks(t *testing.T, s enginetest.Setup) {
	ctx, l, u := t.Context(), s.Layout, s.Engine.(engine.Upgrader)
	prepared(t, s, alice())
	if _, err := u.CheckUpgrade(ctx, l, "99.1"); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("CheckUpgrade() of a server that is down = %v, want Unavailable", err)
	}
	enginetest.Start(t, s)
	if found, err := u.CheckUpgrade(ctx, l, "99.1"); err != nil || len(found) > 0 {
		t.Errorf("CheckUpgrade() to a newer version = %v, %v", found, err)
	}
	found, err := u.CheckUpgrade(ctx, l, "1.2.3")
	if err != nil || len(found) != 1 || !found[0].Blocks || !strings.Contains(found[0].Sentence, "1.2.3") {
		t.Errorf("CheckUpgrade() to an older version = %v, %v", found, errors.Join(err))
	}
}
