package redistest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/internal/clock"
)

// engineID is the account that the servers of these tests run as: one that owns nothing.
const engineID = 65534

// addresses hands out loopback addresses: each server of a test has the product's ports for itself.
var addresses atomic.Uint32

// layout makes the directories of a guest. They are not below t.TempDir, whose path is too long for a socket.
func layout(t testing.TB) engine.Layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the server runs as another account")
	}
	dir, err := os.MkdirTemp("", "rds") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pid := os.Getpid()
	l := engine.Layout{
		Data: dir + "/data", Runtime: dir + "/run", State: dir + "/state", UID: engineID, GID: engineID,
		Address: fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&0x3f, pid&0xff, 1+addresses.Add(1)),
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, l.Data: 0o755, l.Runtime: 0o711, l.State: 0o700} {
		must(t, os.MkdirAll(path, perm))
		must(t, os.Chmod(path, perm))
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects as a tenant's client does: over TCP and TLS.
func dial(ctx context.Context, l engine.Layout, user string, password trove.Secret, config *tls.Config) (redis.Conn, error) {
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	return redis.DialContext(ctx, "tcp", net.JoinHostPort(l.Address, "6380"), redis.DialUsername(user), redis.DialPassword(password.Reveal()),
		redis.DialUseTLS(true), redis.DialTLSConfig(config), redis.DialConnectTimeout(5*time.Second), redis.DialReadTimeout(20*time.Second))
}

// ask runs a command as a tenant's client.
func ask(ctx context.Context, l engine.Layout, user string, password trove.Secret, command []string) (any, error) {
	c, err := dial(ctx, l, user, password, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	var args []any
	for _, a := range command[1:] {
		args = append(args, a)
	}
	return c.Do(command[0], args...)
}

// harmful are commands that reach beyond a tenant's keys.
var harmful = [][]string{
	{"CONFIG", "SET", "dir", "/"},
	{"CONFIG", "SET", "maxclients", "1"},
	{"CONFIG", "REWRITE"},
	{"DEBUG", "JMAP"},
	{"DEBUG", "SLEEP", "0"},
	{"SHUTDOWN"},
	{"MODULE", "LOAD", "/tmp/x.so"},
	{"MODULE", "LOADEX", "/tmp/x.so"},
	{"REPLICAOF", "192.0.2.1", "6379"},
	{"SLAVEOF", "192.0.2.1", "6379"},
	{"CLUSTER", "MEET", "192.0.2.1", "6379"},
	{"CLUSTER", "RESET"},
	{"ACL", "SETUSER", "mallory", "on"},
	{"ACL", "DELUSER", "trove_admin"},
	{"ACL", "SAVE"},
	{"ACL", "LOAD"},
	{"ACL", "LIST"},
	{"ACL", "GETUSER", "trove_admin"},
	{"SAVE"},
	{"MIGRATE", "192.0.2.1", "6379", "k", "0", "1"},
	{"FAILOVER"},
	{"PSYNC", "?", "-1"},
	{"SYNC"},
	{"REPLCONF", "ACK", "0"},
	{"CLIENT", "PAUSE", "1000"},
	{"RESTORE-ASKING", "k", "0", "x"},
	{"PFDEBUG", "GETREG", "k"},
	{"PFSELFTEST"},
}

// setup returns what the suite needs: a driver and a guest.
func setup(t testing.TB, newEngine New) enginetest.Setup {
	t.Helper()
	e := newEngine(slog.New(slog.DiscardHandler), clock.System{})
	return enginetest.Setup{
		Engine: e, Layout: layout(t), LogsWritten: true, LiveTLS: true,
		Login: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, _ string) error {
			c, err := dial(ctx, l, user, password, nil)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			_, err = c.Do("SET", "login", user)
			return err
		},
		Shown: func(ctx context.Context, l engine.Layout) (der []byte, err error) {
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
			c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(l.Address, "6380"))
			if err != nil {
				return nil, err
			}
			defer func() { _ = c.Close() }()
			return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, nil
		},
		Override: "timeout", Value: "77", Changed: "78",
		Set: func(ctx context.Context, l engine.Layout, _ trove.Secret, name, value string) error {
			c, err := admin(ctx, e, l) // no tenant may
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			_, err = c.Do("CONFIG", "SET", name, value)
			return err
		},
		Static: "databases", StaticValue: "33",
		Refused: map[string]string{
			"maxmemory-policy": `"forget-all"`, "hz": `"often"`, "no-such-parameter": "1", "appendfsync": `"never"`, "save": `"1 2 3"`,
			"slaveof-x": `"1"`, "lua-time-limit": `"a b"`,
		},
		Read: func(ctx context.Context, l engine.Layout, _ string, _ trove.Secret) (string, error) {
			return parameter(ctx, e, l, "timeout")
		},
		BadOverrides: map[string]string{
			"dir": `"/tmp"`, "dbfilename": `"x"`, "DIR": `"/tmp"`, "port": "1", "tls-port": "1", "bind": `"*"`, "aclfile": `"/x"`, "user": `"x on"`, "loadmodule": `"/x.so"`,
			"include": `"/etc/passwd"`, "rename-command": `"CONFIG x"`, "unixsocket": `"/x"`, "requirepass": `"x"`, "enable-debug-command": `"yes"`,
			"timeout\ndir": "1", "timeout 1\n": "1", "timeout": `{"a":1}`, "maxmemory-policy": "\"x\\ndir /\"", "maxmemory": "0", "": "1", "appendonly": "false",
			"replicaof": `"192.0.2.1 6379"`, "cluster-enabled": "true", "sanitize-dump-payload": `"no"`, "bgsave_cpulist": `"0"`,
		},
		Names:     []string{strings.Repeat("a_", 32), `~*`, "+@all", ">password", "on", "üser", "default2"},
		LegalName: func(name string) bool { return !strings.Contains(name, " ") },
		Flat: enginetest.Flat{
			Put: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, key, value string) error {
				_, err := ask(ctx, l, user, password, []string{"SET", key, value})
				return err
			},
			Get: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, key string) (string, error) {
				return redis.String(ask(ctx, l, user, password, []string{"GET", key}))
			},
			Forbidden: harmful,
			Denied: func(ctx context.Context, l engine.Layout, user string, password trove.Secret, command []string) error {
				reply, err := ask(ctx, l, user, password, command)
				if err == nil || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "command not allowed") {
					return fmt.Errorf("it was not denied: %v, %w", reply, err)
				}
				return nil
			},
		},
	}
}
