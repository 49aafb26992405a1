package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

const (
	maxSpaces   = 64 // key spaces that are measured one by one
	maxCommands = 64 // commands that are measured one by one, those that ran most often
)

// figure is a field of INFO and the metric that redis_exporter makes of it.
type figure struct {
	field, name string
	counter     bool
	help        string
}

var figures = []figure{
	{"uptime_in_seconds", "redis_uptime_in_seconds", false, "Seconds since the server started."},
	{"connected_clients", "redis_connected_clients", false, "Connections of clients."},
	{"blocked_clients", "redis_blocked_clients", false, "Clients that wait in a blocking call."},
	{"tracking_clients", "redis_tracking_clients", false, "Clients that track keys."},
	{"client_recent_max_input_buffer", "redis_client_recent_max_input_buffer_bytes", false, "The largest buffer of what a client sent."},
	{"client_recent_max_output_buffer", "redis_client_recent_max_output_buffer_bytes", false, "The largest buffer of what a client has yet to read."},
	{"maxclients", "redis_config_maxclients", false, "Connections that may be open at the same time."},
	{"used_memory", "redis_memory_used_bytes", false, "Memory that the server has allocated."},
	{"used_memory_rss", "redis_memory_used_rss_bytes", false, "Memory that the operating system has given to the server."},
	{"used_memory_peak", "redis_memory_used_peak_bytes", false, "The most memory that the server had allocated."},
	{"used_memory_overhead", "redis_memory_used_overhead_bytes", false, "Memory for what is not the data itself."},
	{"used_memory_dataset", "redis_memory_used_dataset_bytes", false, "Memory for the data."},
	{"used_memory_lua", "redis_memory_used_lua_bytes", false, "Memory for scripts."},
	{"maxmemory", "redis_memory_max_bytes", false, "Memory that the data may take."},
	{"mem_fragmentation_ratio", "redis_mem_fragmentation_ratio", false, "Memory of the operating system over memory allocated."},
	{"mem_clients_normal", "redis_mem_clients_normal", false, "Memory for the buffers of clients."},
	{"mem_not_counted_for_evict", "redis_mem_not_counted_for_eviction_bytes", false, "Memory that does not count against the limit."},
	{"active_defrag_running", "redis_active_defrag_running", false, "1 while memory is being defragmented."},
	{"lazyfree_pending_objects", "redis_lazyfree_pending_objects", false, "Objects that wait to be freed."},
	{"loading", "redis_loading_dump_file", false, "1 while the server reads its data."},
	{"rdb_changes_since_last_save", "redis_rdb_changes_since_last_save", false, "Changes since the last snapshot."},
	{"rdb_bgsave_in_progress", "redis_rdb_bgsave_in_progress", false, "1 while a snapshot is written."},
	{"rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds", false, "When the last snapshot was written."},
	{"rdb_last_bgsave_status", "redis_rdb_last_bgsave_status", false, "1 when the last snapshot was written whole."},
	{"rdb_last_bgsave_time_sec", "redis_rdb_last_bgsave_duration_sec", false, "How long the last snapshot took."},
	{"rdb_last_cow_size", "redis_rdb_last_cow_size_bytes", false, "Memory that was copied while the last snapshot was written."},
	{"aof_enabled", "redis_aof_enabled", false, "1 when the append-only file is written."},
	{"aof_rewrite_in_progress", "redis_aof_rewrite_in_progress", false, "1 while the append-only file is rewritten."},
	{"aof_last_rewrite_time_sec", "redis_aof_last_rewrite_duration_sec", false, "How long the last rewrite took."},
	{"aof_last_cow_size", "redis_aof_last_cow_size_bytes", false, "Memory that was copied during the last rewrite."},
	{"aof_current_size", "redis_aof_current_size_bytes", false, "Size of the append-only file."},
	{"aof_base_size", "redis_aof_base_size_bytes", false, "Its size after the last rewrite."},
	{"aof_delayed_fsync", "redis_aof_delayed_fsync", false, "Times that writing had to wait for the disk."},
	{"aof_last_bgrewrite_status", "redis_aof_last_bgrewrite_status", false, "1 when the last rewrite succeeded."},
	{"aof_last_write_status", "redis_aof_last_write_status", false, "1 when the last write to the append-only file succeeded."},
	{"latest_fork_usec", "redis_latest_fork_usec", false, "How long the last fork took, in microseconds."},
	{"pubsub_channels", "redis_pubsub_channels", false, "Channels with subscribers."},
	{"pubsub_patterns", "redis_pubsub_patterns", false, "Patterns with subscribers."},
	{"connected_slaves", "redis_connected_slaves", false, "Connected replicas."},
	{"total_connections_received", "redis_connections_received_total", true, "Connections accepted."},
	{"rejected_connections", "redis_rejected_connections_total", true, "Connections refused because there were too many."},
	{"total_commands_processed", "redis_commands_processed_total", true, "Commands run."},
	{"total_net_input_bytes", "redis_net_input_bytes_total", true, "Bytes read from the network."},
	{"total_net_output_bytes", "redis_net_output_bytes_total", true, "Bytes written to the network."},
	{"expired_keys", "redis_expired_keys_total", true, "Keys that expired."},
	{"evicted_keys", "redis_evicted_keys_total", true, "Keys that were evicted for want of memory."},
	{"keyspace_hits", "redis_keyspace_hits_total", true, "Look-ups that found a key."},
	{"keyspace_misses", "redis_keyspace_misses_total", true, "Look-ups that found none."},
	{"used_cpu_sys", "redis_cpu_sys_seconds_total", true, "Processor time in the kernel."},
	{"used_cpu_user", "redis_cpu_user_seconds_total", true, "Processor time outside of the kernel."},
	{"used_cpu_sys_children", "redis_cpu_sys_children_seconds_total", true, "Processor time of children in the kernel."},
	{"used_cpu_user_children", "redis_cpu_user_children_seconds_total", true, "Processor time of children outside of the kernel."},
}

// Metrics implements engine.MetricSource with the names of redis_exporter, for both products: dashboards for Valkey use them too.
func (e *Engine) Metrics(ctx context.Context, l engine.Layout) ([]engine.Metric, error) {
	var all []engine.Metric
	err := e.at(l).with(ctx, func(c conn) error {
		fields, err := c.info(ctx, "default", "commandstats")
		if err != nil {
			return err
		}
		slow, err := c.do(ctx, "SLOWLOG", "LEN")
		if err != nil {
			return fmt.Errorf("ask for the length of the slow log: %w", err)
		}
		all = e.product.measure(fields)
		if n, ok := slow.(int64); ok {
			all = append(all, engine.Metric{Name: "redis_slowlog_length", Help: "Entries of the slow log.", Value: float64(n)})
		}
		return nil
	})
	return all, err
}

// measure makes metrics of the fields of INFO.
func (p product) measure(fields map[string]string) []engine.Metric {
	all := []engine.Metric{
		{Name: "redis_up", Help: "1 when the server answers.", Value: 1},
		{Name: "redis_instance_info", Help: "What the server is.", Value: 1, Labels: map[string]string{
			"role": fields["role"], "redis_version": fields[p.number], "redis_mode": fields["redis_mode"], "maxmemory_policy": fields["maxmemory_policy"],
		}},
	}
	for _, f := range figures {
		text, there := fields[f.field]
		if v, ok := number(text); there && ok {
			all = append(all, engine.Metric{Name: f.name, Help: f.help, Counter: f.counter, Value: v})
		}
	}
	return slices.Concat(all, measureSpaces(fields), measureCommands(fields))
}

// number reads a field: a number, or a word that says how something went.
func number(text string) (float64, bool) {
	switch text {
	case "ok":
		return 1, true
	case "err", "fail":
		return 0, true
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

// parts reads a field of the form "keys=1,expires=0".
func parts(text string) map[string]float64 {
	out := map[string]float64{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// measureSpaces measures the key spaces with the lowest numbers.
func measureSpaces(fields map[string]string) []engine.Metric {
	var all []engine.Metric
	for n := range maxSpaces {
		db := "db" + strconv.Itoa(n)
		text, there := fields[db]
		if !there {
			continue
		}
		v, labels := parts(text), map[string]string{"db": db}
		all = append(all,
			engine.Metric{Name: "redis_db_keys", Help: "Keys.", Labels: labels, Value: v["keys"]},
			engine.Metric{Name: "redis_db_keys_expiring", Help: "Keys that will expire.", Labels: labels, Value: v["expires"]},
			engine.Metric{Name: "redis_db_avg_ttl_seconds", Help: "How long keys that expire live on, on average.", Labels: labels, Value: v["avg_ttl"] / 1000})
	}
	return all
}

// command is what one command cost.
type command struct {
	name  string
	calls int64
	time  time.Duration
}

func commands(fields map[string]string) []command {
	var all []command
	for field, text := range fields {
		if name, found := strings.CutPrefix(field, "cmdstat_"); found {
			v := parts(text)
			all = append(all, command{name, int64(v["calls"]), time.Duration(v["usec"]) * time.Microsecond})
		}
	}
	return all
}

func measureCommands(fields map[string]string) []engine.Metric {
	most := commands(fields)
	slices.SortFunc(most, func(a, b command) int { return cmp.Or(cmp.Compare(b.calls, a.calls), cmp.Compare(a.name, b.name)) })
	var all []engine.Metric
	for _, c := range most[:min(len(most), maxCommands)] {
		labels := map[string]string{"cmd": c.name}
		all = append(all,
			engine.Metric{Name: "redis_commands_total", Help: "Calls of a command.", Counter: true, Labels: labels, Value: float64(c.calls)},
			engine.Metric{
				Name: "redis_commands_duration_seconds_total", Help: "Time spent in a command.", Counter: true, Labels: labels, Value: c.time.Seconds(),
			})
	}
	return all
}

// Statements implements engine.StatementSource: the server counts commands, without their keys and values.
func (e *Engine) Statements(ctx context.Context, l engine.Layout, limit int) ([]engine.Statement, error) {
	if limit < 0 {
		return nil, trove.Errorf(trove.KindBadRequest, "The limit must not be negative.")
	}
	var fields map[string]string
	err := e.at(l).with(ctx, func(c conn) (err error) {
		fields, err = c.info(ctx, "commandstats")
		return err
	})
	if err != nil {
		return nil, err
	}
	costly := commands(fields)
	slices.SortFunc(costly, func(a, b command) int { return cmp.Or(cmp.Compare(b.time, a.time), cmp.Compare(a.name, b.name)) })
	all := []engine.Statement{}
	for _, c := range costly[:min(len(costly), limit)] {
		all = append(all, engine.Statement{Text: strings.ToUpper(strings.ReplaceAll(c.name, "|", " ")), Calls: c.calls, Time: c.time})
	}
	return all, nil
}
