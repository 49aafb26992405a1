package familytest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// mostSeries is what the exporter's names come to; it does not grow with the tenant's data.
const mostSeries = 300

// metrics compares the figures with what the server did.
func (c Case) metrics(t *testing.T) {
	s := c.prepared(t, engine.Preparation{
		Databases: []trove.Database{{Name: "shop"}}, Users: []trove.User{{Name: "alice", Password: "alice-password", Databases: []string{"shop"}}},
	})
	srv := enginetest.Start(t, s)
	e := c.New()
	read := func() map[string]float64 {
		t.Helper()
		all, err := e.Metrics(t.Context(), s.Layout)
		must(t, err)
		if len(all) > mostSeries {
			t.Errorf("%d series, want at most %d", len(all), mostSeries)
		}
		values := map[string]float64{}
		for _, m := range all {
			var named strings.Builder
			named.WriteString(m.Name)
			for label, value := range m.Labels { // one at the most
				if m.Name != "mysql_version_info" {
					named.WriteString("{" + label + "=" + value + "}")
				}
			}
			key := named.String()
			if _, twice := values[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			if counter := strings.HasSuffix(m.Name, "_total") && !strings.HasSuffix(m.Name, "pages_total"); counter && !m.Counter || m.Help == "" {
				t.Errorf("%s: counter %t, help %q", key, m.Counter, m.Help)
			}
			values[key] = m.Value
		}
		return values
	}
	before := read()
	db := client(t, s.Layout, "alice", "alice-password", "shop")
	for _, statement := range []string{"CREATE TABLE t (i INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)", "SELECT COUNT(*) FROM t"} {
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	after := read()
	for key, by := range map[string]float64{
		"mysql_global_status_commands_total{command=create_table}": 1, "mysql_global_status_commands_total{command=insert}": 1,
		"mysql_global_status_handlers_total{handler=write}": 3,
	} {
		if got := after[key] - before[key]; got < by || got > by && !strings.Contains(key, "handler") {
			t.Errorf("%s grew by %v, want %v", key, got, by)
		}
	}
	for key, want := range map[string]float64{
		"mysql_up": 1, "mysql_version_info": 1, "mysql_global_variables_max_connections": 100, "mysql_global_variables_innodb_buffer_pool_size": 128 << 20,
	} {
		if after[key] != want {
			t.Errorf("%s = %v, want %v", key, after[key], want)
		}
	}
	if after["mysql_global_status_threads_connected"] < 2 || after["mysql_global_status_buffer_pool_pages{state=free}"] == 0 {
		t.Errorf("threads connected %v, free pages %v", after["mysql_global_status_threads_connected"], after["mysql_global_status_buffer_pool_pages{state=free}"])
	}
	srv.Stop()
	if _, err := e.Metrics(t.Context(), s.Layout); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("Metrics() of a server that is down = %v, want Unavailable", err)
	}
}

// statements sees what a tenant's statements cost, and nothing of what is in them.
func (c Case) statements(t *testing.T) {
	s := c.prepared(t, engine.Preparation{
		Databases: []trove.Database{{Name: "shop"}}, Users: []trove.User{{Name: "alice", Password: "alice-password", Databases: []string{"shop"}}},
		Settings: engine.Settings{Overrides: map[string]json.RawMessage{"performance_schema": json.RawMessage("true")}},
	})
	enginetest.Start(t, s)
	db := client(t, s.Layout, "alice", "alice-password", "shop")
	for range 3 {
		_, err := db.ExecContext(t.Context(), "SELECT SLEEP(0.02), 'secret-text', 4711 FROM (SELECT 1) AS one")
		must(t, err)
	}
	var all []engine.Statement
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); { // a statement is counted after its answer
		var err error
		all, err = c.New().Statements(t.Context(), s.Layout, 2)
		must(t, err)
		if len(all) > 0 && all[0].Calls == 3 {
			break
		}
	}
	if len(all) == 0 || len(all) > 2 {
		t.Fatalf("Statements() = %+v, want one or two", all)
	}
	top := all[0]
	if top.Database != "shop" || top.Calls != 3 || top.Time.Milliseconds() < 60 || top.Rows != 3 || !strings.Contains(top.Text, "SLEEP") {
		t.Errorf("the costliest is %+v", top)
	}
	for _, each := range all {
		if strings.Contains(each.Text, "secret-text") || strings.Contains(each.Text, "4711") {
			t.Errorf("%q has constants", each.Text)
		}
	}
	if none, err := c.New().Statements(t.Context(), s.Layout, 0); err != nil || len(none) != 0 {
		t.Errorf("Statements(0) = %+v, %v", none, err)
	}
}
