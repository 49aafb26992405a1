package postgresql_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

func find(all []engine.Metric, name, key, value string) (engine.Metric, bool) {
	i := slices.IndexFunc(all, func(m engine.Metric) bool { return m.Name == name && (key == "" || m.Labels[key] == value) })
	if i < 0 {
		return engine.Metric{}, false
	}
	return all[i], true
}

func TestMetricsHaveTheExportersNames(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	wantAnswer(t, client(t, s.Layout, "alice", "pw-a", "shop"), "CREATE TABLE t AS SELECT generate_series(1, 1000) a; SELECT count(*) FROM t", "1000")
	major, err := postgresql.Major("")
	must(t, err)
	all, err := newEngine().Metrics(t.Context(), s.Layout)
	must(t, err)
	names := []string{
		"pg_up", "pg_static", "pg_stat_database_xact_commit", "pg_stat_database_blks_hit", "pg_stat_database_tup_inserted", "pg_stat_database_deadlocks", "pg_database_size_bytes",
		"pg_stat_bgwriter_buffers_alloc_total", "pg_settings_max_connections", "pg_settings_shared_buffers_bytes", "pg_settings_checkpoint_timeout_seconds", "pg_settings_fsync",
		"pg_stat_activity_count", "pg_wal_size_bytes", "pg_postmaster_start_time_seconds", "pg_locks_count",
	}
	if major >= 17 {
		names = append(names, "pg_stat_checkpointer_num_timed_total")
	} else {
		names = append(names, "pg_stat_bgwriter_checkpoints_timed_total")
	}
	for _, name := range names {
		if m, ok := find(all, name, "", ""); !ok || m.Help == "" {
			t.Errorf("%s: there %t, %+v", name, ok, m)
		}
	}
	if m, _ := find(all, "pg_settings_shared_buffers_bytes", "", ""); m.Value != 128<<20 {
		t.Errorf("shared_buffers = %v bytes", m.Value)
	}
	if m, _ := find(all, "pg_database_size_bytes", "datname", "shop"); m.Value < 1<<20 {
		t.Errorf("the size of shop = %v", m.Value)
	}
	if m, ok := find(all, "pg_stat_activity_count", "datname", "shop"); !ok || m.Value != 1 || m.Labels["state"] != "idle" {
		t.Errorf("sessions in shop: %+v", m)
	}
	seen := map[string]bool{}
	for _, m := range all {
		key := m.Name
		for _, k := range []string{"datname", "datid", "state", "mode", "slot_name"} {
			key += "|" + m.Labels[k]
		}
		if seen[key] {
			t.Errorf("the series %s is there twice", key)
		}
		seen[key] = true
	}
}

// TestSeriesDoNotGrowWithTheTenantsData makes more databases than there are figures of.
func TestSeriesDoNotGrowWithTheTenantsData(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	enginetest.Start(t, s)
	root := client(t, s.Layout, "postgres", "pw-root", "")
	for i := range 55 {
		wantAnswer(t, root, "CREATE DATABASE d"+strconv.Itoa(i)+" STRATEGY file_copy", "")
	}
	all, err := newEngine().Metrics(t.Context(), s.Layout)
	must(t, err)
	n := 0
	for _, m := range all {
		if m.Name == "pg_database_size_bytes" {
			n++
		}
	}
	if n != 50 {
		t.Errorf("there are figures of %d databases", n)
	}
}

func TestStatementsHaveNoConstants(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	alice := client(t, s.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "CREATE TABLE t (a text)", "")
	for _, v := range []string{"secret-1", "secret-2", "secret-3"} {
		wantAnswer(t, alice, "INSERT INTO t VALUES ('"+v+"'); SELECT count(*) > 0 FROM t WHERE a = '"+v+"'", "t")
	}
	wantRefused(t, alice, "CREATE ROLE x PASSWORD 'secret-4'")
	all, err := newEngine().Statements(t.Context(), s.Layout, 5)
	must(t, err)
	found := false
	for i, st := range all {
		if strings.Contains(st.Text, "secret") || len(st.Text) > 1024 || i > 0 && st.Time > all[i-1].Time {
			t.Errorf("statement %d: %+v", i, st)
		}
		if strings.HasPrefix(st.Text, "INSERT INTO t") {
			found = st.Calls == 3 && st.Rows == 3 && st.Database == "shop" && st.Time > 0
		}
	}
	if !found || len(all) > 5 {
		t.Errorf("Statements() = %+v, want the INSERT with its 3 calls", all)
	}
	if none, err := newEngine().Statements(t.Context(), s.Layout, 0); err != nil || len(none) != 0 {
		t.Errorf("at most 0: %v, %v", none, err)
	}
}
