package redis

import (
	"bytes"
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

// option is a line of the configuration file.
type option struct{ name, value string }

const smallestRAM = 256 // MiB: what the formulas start from

// derived are the options that follow from the size of the machine; an override replaces any of them. docs/drivers/engine-redis.md has the formulas for
// people, with their sources.
func derived(s engine.Settings) []option {
	ram := max(s.RAM, smallestRAM)
	return []option{
		{"maxmemory", strconv.Itoa(maxMemory(ram) << 20)},
		{"maxmemory-policy", "noeviction"}, // a database refuses what does not fit; it does not forget
		{"maxmemory-clients", "10%"},       // the buffers of clients that do not read are not counted in maxmemory
		{"maxclients", strconv.Itoa(min(max(500, ram*2), 10000))},
		{"io-threads", strconv.Itoa(ioThreads(s.VCPUs))},
		{"appendfsync", "everysec"},
		{"save", "3600 1"},
	}
}

// maxMemory leaves room for what a child that writes the data cannot share with the server, for fragmentation, and for the server and the agent themselves.
func maxMemory(ram int) int {
	percent := 75
	switch {
	case ram <= 1024:
		percent = 60
	case ram <= 4096:
		percent = 70
	}
	return ram * percent / 100
}

// ioThreads is what the product's own file recommends: none below four cores, and more than eight are no use.
func ioThreads(vcpus int) int {
	if vcpus < 4 {
		return 1
	}
	return min(vcpus*3/4, 8)
}

// fixed are the options that no override changes.
func (p place) fixed(k kept) []option {
	bind := p.Address
	if bind == "" {
		bind = "* -::*"
	}
	return slices.Concat([]option{
		{"bind", bind},
		{"dir", p.dataDir()},
		{"aclfile", p.usersFile()},
		{"logfile", p.logFile()},
		{"unixsocket", p.socket()},
		{"supervised", "systemd"},
		{"appendonly", "yes"},
	}, safe, k.TLS.options(p))
}

// safe are options that keep clients from what is not theirs.
var safe = []option{
	{"daemonize", "no"},
	{"shutdown-on-sigterm", "nosave force"}, // all is in the append-only file; with a full volume it would not stop
	{"unixsocketperm", "700"},
	{"protected-mode", "yes"},
	{"enable-protected-configs", "no"},
	{"enable-debug-command", "no"},
	{"enable-module-command", "no"},
	{"sanitize-dump-payload", "yes"}, // RESTORE is for users, and a payload that was made to do harm must not
	{"tls-protocols", "TLSv1.2 TLSv1.3"},
}

// forbidden are options that an override must not name: those that say where the server listens, what it reads, writes and loads, who may do what, and
// whom it follows. Those of fixed are among them, under each of their names. A * stands for any end.
var forbidden = []string{
	"acl*", "always-show-logo", "appendonly", "appenddirname", "appendfilename", "bind*", "cluster*", "crash-*", "daemonize", "dbfilename", "dir",
	"enable-*", "extended-redis-compatibility", "ignore-warnings", "import-mode", "include", "io-threads-do-reads", "loadmodule*", "locale-collate", "logfile",
	"masterauth", "masteruser", "oom-score-adj*", "pidfile", "port", "primaryauth", "primaryuser", "proc-title-template", "protected-mode", "rdb-version-check",
	"rdma-*", "rename-command", "replica-announce*", "replicaof", "requirepass", "sanitize-dump-payload", "set-proc-title", "shutdown-*", "slave-announce*",
	"slaveof", "socket-mark-id", "supervised", "syslog-*", "tls-*", "unixsocket*", "user", "availability-zone",
	"aof-rewrite-cpulist", "aof_rewrite_cpulist", "bgsave-cpulist", "bgsave_cpulist", "bio-cpulist", "bio_cpulist", "server-cpulist", "server_cpulist",
}

var optionPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

// checkOption refuses what the service decides. The server knows no abbreviations; capitals it would take, and here they are no name.
func checkOption(name string) error {
	if !optionPattern.MatchString(name) {
		return trove.Errorf(trove.KindBadRequest, "%q is not the name of a parameter.", name)
	}
	for _, f := range forbidden {
		start, any := strings.CutSuffix(f, "*")
		if name == f || any && strings.HasPrefix(name, start) {
			return trove.Errorf(trove.KindBadRequest, "The parameter %s is set by the service and cannot be changed.", name)
		}
	}
	return nil
}

// texts are those of values in the configuration file.
var texts = guestfiles.Words{Yes: "yes", No: "no", Bad: unicode.IsControl}

// options returns what settings make: what is derived, with the overrides in its place, ordered by name. A parameter stands once: some add up.
func (p place) options(s engine.Settings) ([]option, error) {
	values := map[string]string{}
	for _, o := range derived(s) {
		values[o.name] = o.value
	}
	for name, raw := range s.Overrides {
		if err := checkOption(name); err != nil {
			return nil, err
		}
		value, err := texts.Value(raw)
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "The value of the parameter %s cannot be used: %v.", name, err)
		}
		values[name] = value
	}
	if err := checkMemory(s.RAM, values["maxmemory"]); err != nil {
		return nil, err
	}
	var all []option
	for name, value := range values {
		all = append(all, option{name, value})
	}
	slices.SortFunc(all, func(a, b option) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// checkMemory refuses more data than the machine has memory for, and data without a limit: the kernel would end the server again and again.
func checkMemory(ram int, value string) error {
	n, ok := size(value)
	if ok && ram > 0 && (n == 0 || n > uint64(ram)<<20) {
		return trove.Errorf(trove.KindBadRequest, "The value of the parameter maxmemory must be at least 1 and at most the %d MiB of memory that the instance has.", ram)
	}
	return nil
}

// size reads a whole number of bytes with the units that the server knows: 1k is 1000, 1kb is 1024.
func size(text string) (uint64, bool) {
	text = strings.ToLower(text)
	digits := strings.TrimRight(text, "kmgb")
	by, ok := map[string]uint64{"": 1, "b": 1, "k": 1e3, "kb": 1 << 10, "m": 1e6, "mb": 1 << 20, "g": 1e9, "gb": 1 << 30}[text[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 64)
	return n * by, ok && err == nil && (n == 0 || n*by/n == by)
}

var valueEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func lines(options ...[]option) []byte {
	var b bytes.Buffer
	b.WriteString("# Written at each start of the server; changes here are lost.\n")
	for _, o := range slices.Concat(options...) {
		fmt.Fprintf(&b, "%s \"%s\"\n", o.name, valueEscaper.Replace(o.value))
	}
	return b.Bytes()
}

// render writes the configuration file.
func (p place) render(k kept) ([]byte, error) {
	options, err := p.options(k.Settings)
	if err != nil {
		return nil, err
	}
	return lines(options, p.fixed(k)), nil
}
