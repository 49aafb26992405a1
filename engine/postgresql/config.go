package postgresql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// option is a line of postgresql.conf.
type option struct{ name, value string }

const smallestRAM = 256 // MiB: what the formulas start from

// derived are the options that follow from the size of the machine; an override replaces any of them. docs/drivers/engine-postgresql.md has the formulas for
// people, and where they come from.
func derived(s engine.Settings) []option {
	ram, vcpus := max(s.RAM, smallestRAM), max(s.VCPUs, 1)
	mib := func(n int) string { return strconv.Itoa(n) + "MB" }
	shared, connections := ram/4, maxConnections(ram)
	gather := min((vcpus+1)/2, 4)
	return []option{
		{"shared_buffers", mib(shared)},
		{"effective_cache_size", mib(ram * 3 / 4)},
		{"max_connections", strconv.Itoa(connections)},
		{"work_mem", mib(min(max(4, (ram-shared)/(3*connections)), 64))},
		{"maintenance_work_mem", mib(min(max(16, ram/16), 2048))},
		{"autovacuum_work_mem", mib(min(max(16, ram/32), 1024))},
		{"min_wal_size", mib(max(80, maxWAL(ram)/4))},
		{"max_wal_size", mib(maxWAL(ram))},
		{"max_worker_processes", strconv.Itoa(max(8, vcpus))},
		{"max_parallel_workers", strconv.Itoa(vcpus)},
		{"max_parallel_workers_per_gather", strconv.Itoa(gather)},
		{"max_parallel_maintenance_workers", strconv.Itoa(gather)},
		{"random_page_cost", "1.1"},
		{"jit", "off"}, // the compiler is not in the image, and short queries pay more for it than they win
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},
		{"datestyle", "iso, mdy"},
		{"default_text_search_config", "pg_catalog.english"},
		{"pg_stat_statements.max", "1000"},
	}
}

// maxConnections is about a hundred for each GiB, as one connection takes some MiB.
func maxConnections(ram int) int { return min(max(50, ram*112/1024), 5000) }

// maxWAL follows the memory, since nobody tells the driver of the volume: a small machine has a small one.
func maxWAL(ram int) int { return min(max(256, ram/2), 4096) }

// fixed are the options that no override changes; they come last, and the last one counts.
func (p place) fixed() []option {
	address := p.Address
	if address == "" {
		address = "*"
	}
	all := []option{
		{"hba_file", p.hbaFile()},
		{"ident_file", p.identFile()},
		{"listen_addresses", address},
		{"port", strconv.Itoa(port)},
		{"unix_socket_directories", p.runDir()},
		{"unix_socket_permissions", "0777"}, // the directory is closed
		{"ssl_cert_file", p.tls().Cert()},
		{"ssl_key_file", p.tls().Key()},
		{"ssl_min_protocol_version", "TLSv1.2"},
		{"shared_preload_libraries", "pg_stat_statements"},
		{"pg_stat_statements.track_utility", "off"}, // a password that somebody sets by SQL is in such a statement
		{"compute_query_id", "on"},
		{"password_encryption", "scram-sha-256"},
		{"huge_pages", "off"}, // a guest is promised none
		{"fsync", "on"},
		{"full_page_writes", "on"},
		{"archive_mode", "off"},
		{"logging_collector", "on"},
		{"log_destination", "stderr"},
		{"log_directory", p.logDir()},
		{"log_filename", logFileName},
		{"log_file_mode", "0600"},
		{"log_rotation_age", "0"}, // the agent cuts it
		{"log_rotation_size", "0"},
		{"log_line_prefix", "%m [%p] %q%u@%d "},
	}
	if major, err := p.major(); err == nil && major >= firstNoAlterSystem {
		all = append(all, option{"allow_alter_system", "off"})
	}
	return all
}

// firstNoAlterSystem is the version that can refuse ALTER SYSTEM. Before it only a superuser may run it, and there is none but the agent.
const firstNoAlterSystem = 17

// forbidden are options that an override must not name: those of fixed, and those that load code, name files, run programs or change who may do what.
var forbidden = []string{
	"allow_alter_system", "allow_in_place_tablespaces", "allow_system_table_mods", "archive_cleanup_command", "archive_command", "archive_library",
	"archive_mode", "archive_timeout", "authentication_timeout", "bonjour", "bonjour_name", "cluster_name", "compute_query_id", "config_file", "data_directory",
	"data_sync_retry", "db_user_namespace", "default_tablespace", "dynamic_library_path", "dynamic_shared_memory_type", "event_source", "event_triggers", "exit_on_error",
	"extension_control_path", "extension_destdir", "external_pid_file", "fsync", "full_page_writes", "gss_accept_delegation", "hba_file", "hot_standby", "huge_page_size", "huge_pages", "ident_file",
	"ignore_checksum_failure", "ignore_invalid_pages", "ignore_system_indexes", "include", "include_dir", "include_if_exists", "io_method", "jit", "jit_provider", "krb_caseins_users",
	"krb_server_keyfile", "listen_addresses", "local_preload_libraries", "log_destination", "log_directory", "log_file_mode", "log_filename", "log_line_prefix",
	"log_rotation_age", "log_rotation_size", "log_truncate_on_rotation", "logging_collector", "max_stack_depth", "max_files_per_process", "min_dynamic_shared_memory",
	"oauth_validator_libraries", "output_plugin_libraries", "password_encryption", "pg_stat_statements.track_utility", "pg_stat_statements.save", "port", "primary_conninfo",
	"primary_slot_name", "promote_trigger_file", "recovery_end_command", "recovery_min_apply_delay", "recovery_init_sync_method", "recovery_prefetch", "recovery_target",
	"recovery_target_action", "recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name", "recovery_target_time",
	"recovery_target_timeline", "recovery_target_xid", "remove_temp_files_after_crash", "reserved_connections", "restart_after_crash", "restore_command",
	"restrict_nonsystem_relation_kind", "role", "send_abort_for_crash", "send_abort_for_kill", "session_authorization", "session_preload_libraries", "session_replication_role", "shared_memory_type", "shared_preload_libraries", "ssl",
	"ssl_ca_file", "ssl_cert_file", "ssl_ciphers", "ssl_crl_dir", "ssl_crl_file", "ssl_dh_params_file", "ssl_ecdh_curve", "ssl_groups", "ssl_key_file",
	"ssl_max_protocol_version", "ssl_min_protocol_version", "ssl_passphrase_command", "ssl_passphrase_command_supports_reload",
	"ssl_prefer_server_ciphers", "ssl_renegotiation_limit", "ssl_tls13_ciphers", "stats_temp_directory", "superuser_reserved_connections", "sync_replication_slots", "synchronized_standby_slots", "synchronous_standby_names",
	"syslog_facility", "syslog_ident", "syslog_sequence_numbers", "syslog_split_messages", "temp_tablespaces", "trace_connection_negotiation",
	"unix_socket_directories", "unix_socket_group", "unix_socket_permissions", "update_process_title", "wal_sync_method", "zero_damaged_pages", "log_startup_progress_interval",
}

var (
	optionPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}(\.[a-z][a-z0-9_]{0,62})?$`)
	// prefixes are those of extensions whose parameters users may set.
	prefixes = []string{"pg_stat_statements", "pg_trgm", "hnsw", "ivfflat"}
)

// overridden checks the overrides and returns them as lines, ordered by name.
func overridden(overrides map[string]json.RawMessage) ([]option, error) {
	options := make([]option, 0, len(overrides))
	for name, raw := range overrides {
		if err := checkOption(name); err != nil {
			return nil, err
		}
		value, err := texts.Value(raw)
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "The value of the parameter %s cannot be used: %v.", name, err)
		}
		options = append(options, option{name, value})
	}
	slices.SortFunc(options, func(a, b option) int { return strings.Compare(a.name, b.name) })
	return options, nil
}

func checkOption(name string) error {
	if !optionPattern.MatchString(name) {
		return trove.Errorf(trove.KindBadRequest, "%q is not the name of a parameter.", name)
	}
	prefix, _, dotted := strings.Cut(name, ".")
	if slices.Contains(forbidden, name) || strings.HasPrefix(name, "debug_") || strings.HasPrefix(name, "trace_") || dotted && !slices.Contains(prefixes, prefix) {
		return trove.Errorf(trove.KindBadRequest, "The parameter %s is set by the service and cannot be changed.", name)
	}
	return nil
}

// texts are those of values in the configuration file.
var texts = guestfiles.Words{Yes: "on", No: "off", Bad: unicode.IsControl}

var valueEscaper = strings.NewReplacer(`\`, `\\`, `'`, `''`)

// render writes postgresql.conf, with the logs of these names switched on. Values are quoted: a # or a space in one is part of it.
func (p place) render(s engine.Settings, logs ...string) ([]byte, error) {
	lines, err := p.options(s, logs...)
	if err != nil {
		return nil, err
	}
	return append([]byte("# Written at each start of the server; changes here are lost.\n"), text(lines)...), nil
}

func text(options []option) []byte {
	var b bytes.Buffer
	for _, o := range options {
		fmt.Fprintf(&b, "%s = '%s'\n", o.name, valueEscaper.Replace(o.value))
	}
	return b.Bytes()
}

// options are all lines, a parameter once.
func (p place) options(s engine.Settings, logs ...string) ([]option, error) {
	overrides, err := overridden(s.Overrides)
	if err != nil {
		return nil, err
	}
	lines, at := []option{}, map[string]int{}
	for _, part := range [][]option{derived(s), logDefaults(logs), overrides, logOptions(logs), p.fixed()} {
		for _, o := range part { // each once: pg_file_settings says of an earlier one that it is not applied
			if n, there := at[o.name]; there {
				lines[n] = o
				continue
			}
			at[o.name] = len(lines)
			lines = append(lines, o)
		}
	}
	return lines, nil
}
