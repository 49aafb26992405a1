package postgresql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/engine"
)

// maxMeasured is of how many databases there are figures, the largest first: the number of series does not follow the tenant's.
const maxMeasured = 50

// source is a query whose first columns are labels and whose others are values. Series have the source's name and that of the column, as postgres_exporter
// names them.
type source struct {
	name   string
	labels []string
	values []value
	query  string // "": built of the columns
	since  int    // the version that has it first
	until  int    // the version that has it last; 0: all
}

type value struct {
	name    string
	counter bool
	help    string
	expr    string // "": the name
}

func count(name, help string) value { return value{name: name, counter: true, help: help} }
func gauge(name, help string) value { return value{name: name, help: help} }

// measured is a condition for the databases that there are figures of.
var measured = "datname IN (SELECT datname FROM pg_database WHERE datname NOT LIKE 'template%' ORDER BY pg_database_size(oid) DESC LIMIT " +
	strconv.Itoa(maxMeasured) + ")"

var sources = []source{
	{name: "pg_stat_database", labels: []string{"datid", "datname"}, values: []value{
		gauge("numbackends", "Backends connected to the database."),
		count("xact_commit", "Transactions committed."), count("xact_rollback", "Transactions rolled back."),
		count("blks_read", "Blocks read from the disk."), count("blks_hit", "Blocks found in the buffer cache."),
		count("tup_returned", "Rows scanned."), count("tup_fetched", "Rows fetched."), count("tup_inserted", "Rows inserted."),
		count("tup_updated", "Rows updated."), count("tup_deleted", "Rows deleted."), count("conflicts", "Queries cancelled by conflicts with recovery."),
		count("temp_files", "Temporary files made."), count("temp_bytes", "Bytes written to temporary files."), count("deadlocks", "Deadlocks found."),
		count("blk_read_time", "Milliseconds spent on reading blocks."), count("blk_write_time", "Milliseconds spent on writing blocks."),
		{name: "active_time_seconds_total", counter: true, help: "Seconds spent on statements.", expr: "active_time / 1000"},
		{name: "stats_reset", help: "When the figures began, as Unix time.", expr: "COALESCE(EXTRACT(epoch FROM stats_reset), 0)"},
	}, query: "FROM pg_stat_database WHERE " + measured + " ORDER BY datname"},
	{name: "pg_database", labels: []string{"datname"}, values: []value{
		{name: "size_bytes", help: "Size of the database.", expr: "pg_database_size(oid)"},
		{name: "connection_limit", help: "Connections that the database allows; -1: any number.", expr: "datconnlimit"},
	}, query: "FROM pg_database WHERE " + measured + " ORDER BY datname"},
	{name: "pg_stat_bgwriter", until: 16, values: append(bgwriter,
		count("checkpoints_timed_total", "Scheduled checkpoints."), count("checkpoints_req_total", "Requested checkpoints."),
		count("checkpoint_write_time_total", "Milliseconds spent on writing at checkpoints."), count("checkpoint_sync_time_total", "Milliseconds spent on syncing at checkpoints."),
		count("buffers_checkpoint_total", "Buffers written at checkpoints."), count("buffers_backend_total", "Buffers written by backends."),
		count("buffers_backend_fsync_total", "Times that a backend synced a file itself.")), query: "FROM pg_stat_bgwriter"},
	{name: "pg_stat_bgwriter", since: 17, values: bgwriter, query: "FROM pg_stat_bgwriter"},
	{name: "pg_stat_checkpointer", since: 17, values: []value{
		count("num_timed_total", "Scheduled checkpoints."), count("num_requested_total", "Requested checkpoints."),
		count("restartpoints_timed_total", "Scheduled restartpoints."), count("restartpoints_req_total", "Requested restartpoints."),
		count("restartpoints_done_total", "Restartpoints done."), count("write_time_total", "Milliseconds spent on writing."),
		count("sync_time_total", "Milliseconds spent on syncing."), count("buffers_written_total", "Buffers written."),
	}, query: "FROM pg_stat_checkpointer"},
	{
		name: "pg_locks", labels: []string{"datname", "mode"}, values: []value{gauge("count", "Locks held or waited for.")},
		query: "FROM (SELECT d.datname, l.mode, count(*) AS count FROM pg_locks l JOIN pg_database d ON d.oid = l.database GROUP BY 1, 2) locks WHERE " + measured + " ORDER BY datname, mode",
	},
	{name: "pg_stat_activity", labels: []string{"datname", "state"}, values: []value{
		gauge("count", "Sessions in this state."), gauge("max_tx_duration", "Seconds that the longest transaction among them has taken."),
	}, query: `FROM (SELECT datname, COALESCE(state, 'unknown') AS state, count(*) AS count,
		COALESCE(max(EXTRACT(epoch FROM clock_timestamp() - xact_start)), 0) AS max_tx_duration
		FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2) activity WHERE ` + measured + " ORDER BY datname, state"},
	{name: "pg_wal", values: []value{
		{name: "segments", help: "Segments of the write-ahead log.", expr: "count(*)"},
		{name: "size_bytes", help: "Bytes of the write-ahead log.", expr: "COALESCE(sum(size), 0)"},
	}, query: "FROM pg_ls_waldir()"},
	{name: "pg_replication_slot", labels: []string{"slot_name", "slot_type"}, values: []value{
		{name: "is_active", help: "Whether the slot is in use.", expr: "active::integer"},
		{name: "current_wal_lsn", help: "Bytes of log since the slot's position.", expr: "pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)"},
	}, query: "FROM pg_replication_slots ORDER BY slot_name LIMIT " + strconv.Itoa(maxMeasured)},
	{name: "pg_postmaster", values: []value{
		{name: "start_time_seconds", help: "When the server started, as Unix time.", expr: "EXTRACT(epoch FROM pg_postmaster_start_time())"},
	}},
}

var bgwriter = []value{
	count("buffers_clean_total", "Buffers written by the background writer."), count("maxwritten_clean_total", "Times that the background writer stopped early."),
	count("buffers_alloc_total", "Buffers allocated."),
	{name: "stats_reset_total", help: "When the figures began, as Unix time.", counter: true, expr: "EXTRACT(epoch FROM stats_reset)"},
}

// Metrics implements engine.MetricSource with the names of postgres_exporter. Labels such as server, which tell targets apart, are for who scrapes to add.
func (e *Engine) Metrics(ctx context.Context, l engine.Layout) ([]engine.Metric, error) {
	p := place{l}
	major, err := p.major()
	if err != nil {
		return nil, err
	}
	var all []engine.Metric
	err = p.with(ctx, adminDB, func(c conn) error {
		version, _, err := c.one(ctx, "SHOW server_version")
		if err != nil {
			return fmt.Errorf("ask for the version: %w", err)
		}
		short, _, _ := strings.Cut(version, " ")
		all = append(all,
			engine.Metric{Name: "pg_up", Help: "Whether the server answers.", Value: 1},
			engine.Metric{Name: "pg_static", Help: "The version of the server.", Labels: map[string]string{"version": "PostgreSQL " + short, "short_version": short}, Value: 1})
		for _, s := range sources {
			if major < s.since || s.until > 0 && major > s.until {
				continue
			}
			if all, err = s.read(ctx, c, all); err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
		}
		all, err = readSettings(ctx, c, all)
		return err
	})
	return all, err
}

func (s source) read(ctx context.Context, c conn, all []engine.Metric) ([]engine.Metric, error) {
	columns := slices.Clone(s.labels)
	for _, v := range s.values {
		expr := v.expr
		if expr == "" {
			expr = strings.TrimSuffix(v.name, "_total")
		}
		columns = append(columns, expr)
	}
	rows, err := c.rows(ctx, "SELECT "+strings.Join(columns, ", ")+" "+s.query)
	if err != nil {
		return all, err
	}
	for _, row := range rows {
		labels := map[string]string{}
		for i, name := range s.labels {
			labels[name] = row[i]
		}
		for i, v := range s.values {
			number, err := strconv.ParseFloat(row[len(s.labels)+i], 64)
			if err != nil {
				continue // NULL: the server has no such figure
			}
			all = append(all, engine.Metric{Name: s.name + "_" + v.name, Help: v.help, Counter: v.counter, Labels: maps.Clone(labels), Value: number})
		}
	}
	return all, nil
}

// units are what the server counts settings in: the factor to the base unit and its name in a series.
var units = map[string]struct {
	factor float64
	suffix string
}{
	"": {1, ""}, "B": {1, "_bytes"}, "kB": {1 << 10, "_bytes"}, "8kB": {8 << 10, "_bytes"}, "16MB": {16 << 20, "_bytes"}, "MB": {1 << 20, "_bytes"},
	"ms": {0.001, "_seconds"}, "s": {1, "_seconds"}, "min": {60, "_seconds"},
}

// readSettings gives each setting that is a number or a switch, in bytes and seconds.
func readSettings(ctx context.Context, c conn, all []engine.Metric) ([]engine.Metric, error) {
	rows, err := c.rows(ctx, `SELECT name, setting, COALESCE(unit, ''), short_desc, vartype FROM pg_settings
		WHERE vartype IN ('bool', 'integer', 'real') AND name !~ '^(debug_|trace_)' AND (name !~ '[.]' OR name LIKE 'pg_stat_statements.%') AND source <> 'client' ORDER BY name`)
	if err != nil {
		return all, fmt.Errorf("measure the settings: %w", err)
	}
	for _, r := range rows {
		unit, known := units[r[2]]
		if !known {
			continue
		}
		number := 0.0
		switch {
		case r[4] == "bool" && r[1] == "on":
			number = 1
		case r[4] != "bool":
			if number, err = strconv.ParseFloat(r[1], 64); err != nil {
				continue
			}
			if number != -1 { // which means that there is none
				number *= unit.factor
			}
		}
		name := "pg_settings_" + strings.NewReplacer(".", "_").Replace(r[0]) + unit.suffix
		all = append(all, engine.Metric{Name: name, Help: "Server parameter: " + r[3], Value: number})
	}
	return all, nil
}
