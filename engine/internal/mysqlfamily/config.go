package mysqlfamily

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// Option is a line of my.cnf.
type Option struct{ Name, Value string }

const smallestRAM = 256 // MiB: what the formulas start from

// derived are the options that follow from the size of the machine; an override replaces any of them. docs/drivers has the formulas for people.
func (p *Product) derived(s engine.Settings) []Option {
	ram := max(s.RAM, smallestRAM)
	return append([]Option{
		{"innodb_buffer_pool_size", MiB(bufferPool(ram))},
		{"max_connections", strconv.Itoa(min(max(50, ram*100/512), 10000))},
		{"tmp_table_size", MiB(min(max(16, ram/32), 256))},
		{"max_heap_table_size", MiB(min(max(16, ram/32), 256))},
		{"key_buffer_size", MiB(min(max(2, ram/256), 64))},
		// Recovery reads as much of the log at each start, and the server touches all of it twice: 16M, the default, cost 25 ms of processor time.
		{"innodb_log_buffer_size", MiB(min(max(2, ram/128), 16))},
		{"max_allowed_packet", "64M"},
		{"character_set_server", "utf8mb4"},
		{"local_infile", "OFF"},
	}, p.Derived(ram)...)
}

// MiB is a size as a value of an option.
func MiB(n int) string { return strconv.Itoa(n) + "M" }

// bufferPool is a share of the memory that grows with it, as what connections and the server itself take does not grow as fast.
func bufferPool(ram int) int {
	percent := 50
	switch {
	case ram <= 512:
		percent = 25
	case ram <= 2048:
		percent = 40
	case ram > 8192:
		percent = 65
	}
	return ram * percent / 100 / 8 * 8
}

// fixed are the options that no override changes; they come last, and the last one counts.
func (p Place) fixed(s engine.Settings) []Option {
	address := p.Address
	if address == "" {
		address = "*"
	}
	return append([]Option{
		{"basedir", p.Program("usr")},
		{"datadir", p.DataDir()},
		{"tmpdir", p.TmpDir()},
		{"secure_file_priv", p.filesDir()},
		{"socket", p.Socket()},
		{"pid_file", p.PIDFile()},
		{"log_error", p.errorLog()},
		{"general_log_file", p.generalLog()},
		{"slow_query_log_file", p.slowLog()},
		{"log_output", "FILE"},
		{"init_file", p.initFile()},
		{"port", strconv.Itoa(port)},
		{"bind_address", address},
		{"server_id", strconv.FormatUint(uint64(s.ServerID), 10)},
		{"ssl_cert", p.tls().Cert()},
		{"ssl_key", p.tls().Key()},
		{"skip_name_resolve", "ON"},
		{"skip_networking", "OFF"},
		{"skip_grant_tables", "OFF"},
		// A server does not start on a file that is smaller than this, and both servers' own 12M is more than what a Python Trove's begin with.
		{"innodb_data_file_path", "ibdata1:10M:autoextend"},
	}, p.product.Fixed(p)...)
}

// FixedOptions are the names of the options that no override changes.
func (e *Engine) FixedOptions() []string {
	var names []string
	for _, o := range e.Place(engine.Layout{}).fixed(engine.Settings{}) {
		names = append(names, o.Name)
	}
	return names
}

// forbidden are options of all products that an override must not name; see Product.Forbidden.
var forbidden = []string{
	"basedir", "bind_address", "chroot", "console", "core_file", "daemonize", "datadir", "defaults_extra_file", "defaults_file", "ft_stopword_file", "gdb",
	"general_log_file", "help", "init_connect", "init_file", "innodb_data_file_path", "innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_temp_data_file_path",
	"innodb_tmpdir", "innodb_undo_directory", "lc_messages_dir", "log_bin", "log_bin_index", "log_error", "log_isam", "log_output", "log_tc", "pid_file",
	"plugin_dir", "plugin_load", "plugin_load_add", "port", "relay_log", "relay_log_index", "report_host", "secure_file_priv", "server_id",
	"skip_grant_tables", "slow_query_log_file", "socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_crl", "ssl_crlpath", "ssl_key", "symbolic_links",
	"tmpdir", "user", "verbose", "version",
}

var (
	optionPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	prefixPattern = regexp.MustCompile(`^((loose|skip|enable|disable|maximum|autoset)_)+`)
	// skipped are options that exist only with the prefix skip_.
	skipped = []string{"networking", "name_resolve", "grant_tables", "symlink", "symbolic_links", "host_cache"}
	// harmless are whole names that happen to be the beginning of a forbidden one.
	harmless = []string{"general_log", "slow_query_log"}
)

// overridden checks the overrides and returns them as lines, ordered by name.
func (p *Product) overridden(overrides map[string]json.RawMessage) ([]Option, error) {
	options := make([]Option, 0, len(overrides))
	for name, raw := range overrides {
		if err := p.checkOption(name); err != nil {
			return nil, err
		}
		value, err := texts.Value(raw)
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "The value of the parameter %s cannot be used: %v.", name, err)
		}
		if err := p.checkVariable(name, value); err != nil {
			return nil, err
		}
		options = append(options, Option{name, value})
	}
	slices.SortFunc(options, func(a, b Option) int { return strings.Compare(a.Name, b.Name) })
	return options, nil
}

// checkOption refuses what fixed decides, under every spelling that the server knows: with its prefixes (loose_, skip_) and cut short.
func (p *Product) checkOption(name string) error {
	if !optionPattern.MatchString(name) {
		return trove.Errorf(trove.KindBadRequest, "%q is not the name of a parameter.", name)
	}
	if slices.Contains(harmless, name) || p.ruled(name) {
		return nil
	}
	bare := prefixPattern.ReplaceAllString(name, "")
	for _, f := range slices.Concat(forbidden, p.Forbidden) {
		if strings.HasPrefix(f, bare) || strings.HasPrefix(f, name) {
			return trove.Errorf(trove.KindBadRequest, "The parameter %s is set by the service and cannot be changed.", name)
		}
	}
	if bare != name && slices.ContainsFunc(skipped, func(s string) bool { return strings.HasPrefix(s, bare) }) {
		return trove.Errorf(trove.KindBadRequest, "The parameter %s is set by the service and cannot be changed.", name)
	}
	return nil
}

// ruled reports whether users may set the option: then it is a whole name, although a forbidden one may begin with it.
func (p *Product) ruled(name string) bool {
	return slices.ContainsFunc(p.Rules.For(""), func(r trove.Parameter) bool { return r.Name == name })
}

// checkMemory refuses a buffer pool that the machine has no memory for: the kernel would end the server again and again.
func checkMemory(ram int, overrides []Option) error {
	for _, o := range overrides {
		n, ok := size(o.Value)
		if o.Name == "innodb_buffer_pool_size" && ok && ram > 0 && n > uint64(ram)<<20 {
			return trove.Errorf(trove.KindBadRequest, "The value of the parameter %s is more than the %d MiB of memory that the instance has.", o.Name, ram)
		}
	}
	return nil
}

// texts are those of values in the configuration file.
var texts = guestfiles.Words{Yes: "ON", No: "OFF", Bad: badRune}

var valueEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// render writes my.cnf, with the logs of these names switched on. Values are quoted: a # or a space in one is part of it.
func (p Place) render(s engine.Settings, logs ...string) ([]byte, error) {
	overrides, err := p.product.overridden(s.Overrides)
	if err == nil {
		err = checkMemory(s.RAM, overrides)
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written at each start of the server; changes here are lost.\n[%s]\n", p.product.Group)
	for _, part := range [][]Option{p.product.derived(s), logDefaults(logs), overrides, logOptions(logs), p.fixed(s)} {
		for _, o := range part {
			if p.product.isVariable(o.Name) {
				continue
			}
			fmt.Fprintf(&b, "%s=\"%s\"\n", o.Name, valueEscaper.Replace(o.Value))
		}
	}
	return b.Bytes(), nil
}
