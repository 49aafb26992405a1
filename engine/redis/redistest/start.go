package redistest

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/internal/execx"
)

const password trove.Secret = "plain-user-password"

// alice is a preparation with one user.
func alice() engine.Preparation {
	return engine.Preparation{Users: []trove.User{{Name: "alice", Password: password}}}
}

func readTree(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			all.WriteString(path + "\n" + string(data) + "\n")
			return err
		}))
	}
	return all.String()
}

func passwordsAreNeverWritten(t *testing.T, s enginetest.Setup) {
	const root trove.Secret = "plain-root-password"
	p := alice()
	p.RootPassword = root
	prepared(t, s, p)
	check := func(when string) {
		t.Helper()
		all := readTree(t, s.Layout.Runtime, s.Layout.State, s.Layout.Data)
		for _, secret := range []trove.Secret{password, root, "later-password"} {
			if strings.Contains(all, secret.Reveal()) {
				t.Errorf("%s: %q is in a file", when, secret.Reveal())
			}
		}
		if !strings.Contains(all, "user alice ") {
			t.Errorf("%s: alice is in no file: this test looks in the wrong place", when)
		}
	}
	check("after Prepare")
	info, err := os.Stat(usersFile(s.Engine, s.Layout))
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o600 || stat.Uid != engineID {
		t.Errorf("the file of users has mode %v and owner %d, want 0600 and %d", info.Mode(), stat.Uid, engineID)
	}
	enginetest.Start(t, s)
	must(t, s.Engine.CreateUser(t.Context(), s.Layout, trove.User{Name: "later", Password: "later-password"}))
	check("after Ready")
	c, err := s.Engine.Command(s.Layout)
	must(t, err)
	kept, err := os.ReadFile(settingsFile(s.Engine, s.Layout))
	must(t, err)
	var k struct{ Admin string }
	must(t, json.Unmarshal(kept, &k))
	if text := strings.Join(append(c.Args, c.Env...), " ") + readTree(t, s.Layout.Runtime, s.Layout.Data); k.Admin == "" || strings.Contains(text, k.Admin) {
		t.Error("the password of the agent's account is in an argument, the environment or a file that the engine's account reads")
	}
}

func bootEmptiesRuntime(t *testing.T, s enginetest.Setup) {
	p := alice()
	p.TLSCert, p.TLSKey = enginetest.Certificate(t, "given")
	prepared(t, s, p)
	srv := enginetest.Start(t, s)
	for range 2 {
		if got := presented(t, s); got.Subject.CommonName != "given" {
			t.Errorf("the server shows another certificate than the given one: %v", got.Subject)
		}
		srv.Stop()
		must(t, os.RemoveAll(runtimeDir(s.Engine, s.Layout)))
		srv = enginetest.Start(t, s)
	}
}

// startMendsTheAccount: as after a backup of another instance was restored, and without any file of users.
func startMendsTheAccount(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	srv := enginetest.Start(t, s)
	srv.Stop()
	file := usersFile(s.Engine, s.Layout)
	data, err := os.ReadFile(file)
	must(t, err)
	foreign := strings.Repeat("ab", 32)
	var lines []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "user trove_admin ") {
			line = "user trove_admin on #" + foreign + " ~* &* +@all\n"
		}
		lines = append(lines, line)
	}
	must(t, os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600))
	srv = enginetest.Start(t, s) // pings
	must(t, s.Login(t.Context(), s.Layout, "alice", password, ""))
	if after, err := os.ReadFile(file); err != nil || strings.Contains(string(after), foreign) {
		t.Errorf("the account of the other instance is still there: %v", err)
	}
	srv.Stop()
	must(t, os.Remove(file))
	enginetest.Start(t, s)
	if enabled, err := s.Engine.RootEnabled(t.Context(), s.Layout); err != nil || enabled {
		t.Errorf("RootEnabled() without a file of users = %v, %v", enabled, err)
	}
}

// startNeedsNoSpace: a file of users that is right is not written again.
func startNeedsNoSpace(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	srv := enginetest.Start(t, s)
	must(t, s.Engine.EnableRoot(t.Context(), s.Layout, "root-pass")) // the server has written it
	srv.Stop()
	before, err := os.Stat(usersFile(s.Engine, s.Layout))
	must(t, err)
	enginetest.Start(t, s)
	after, err := os.Stat(usersFile(s.Engine, s.Layout))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the file of users was replaced at a start that had nothing to mend")
	}
}

func linkInPlaceOfUsers(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	secret := filepath.Join(s.Layout.State, "secret")
	must(t, os.WriteFile(secret, []byte("user mallory on nopass +@all\n"), 0o600))
	must(t, os.Remove(usersFile(s.Engine, s.Layout)))
	must(t, os.Symlink(secret, usersFile(s.Engine, s.Layout)))
	if _, err := s.Engine.Command(s.Layout); err == nil {
		t.Error("Command() follows a link that the engine's account may have made")
	}
}

func notPrepared(t *testing.T, s enginetest.Setup) {
	if _, err := s.Engine.Command(s.Layout); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("Command() before Prepare = %v, want Conflict", err)
	}
	must(t, s.Engine.Configure(t.Context(), s.Layout, engine.Settings{RAM: 512}))
	if _, err := s.Engine.Command(s.Layout); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("Command() after Configure alone = %v, want Conflict", err)
	}
	half := dataDir(s.Engine, s.Layout) + ".new"
	must(t, os.Mkdir(half, 0o700)) // of a run that was killed
	must(t, s.Engine.Initialise(t.Context(), s.Layout))
	if _, err := os.Stat(half); err == nil {
		t.Error("what a half-done Initialise left is still there")
	}
	cert, _ := enginetest.Certificate(t, "a")
	_, key := enginetest.Certificate(t, "b")
	if err := s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{TLSCert: cert, TLSKey: key}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("Prepare() with a certificate without its key = %v, want BadRequest", err)
	}
	bad := engine.Settings{RAM: 512, Overrides: map[string]json.RawMessage{"maxmemory-policy": json.RawMessage(`"forget"`)}}
	err := s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{Settings: bad})
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(err.Error(), "maxmemory-policy") {
		t.Errorf("Prepare() with a value that the server would not start with = %v, want BadRequest that names it", err)
	}
}

func settingsFollowTheFlavor(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	for ram, want := range map[int][2]string{
		0: {"160432128", "512"}, 512: {"321912832", "1024"}, 1024: {"643825664", "2048"}, 4096: {"3006267392", "8192"}, 65536: {"51539607552", "10000"},
	} {
		must(t, s.Engine.Configure(t.Context(), s.Layout, engine.Settings{RAM: ram, VCPUs: 8}))
		c, err := s.Engine.Command(s.Layout)
		must(t, err)
		config, err := os.ReadFile(c.Args[0])
		must(t, err)
		for _, line := range []string{`maxmemory "` + want[0] + `"`, `maxclients "` + want[1] + `"`, `io-threads "6"`, `appendonly "yes"`} {
			if !strings.Contains(string(config), "\n"+line+"\n") {
				t.Errorf("%d MiB: no line %s in\n%s", ram, line, config)
			}
		}
	}
}

// startProcess starts the server without the agent's part, so that a test can kill it.
func startProcess(t *testing.T, s enginetest.Setup) *exec.Cmd {
	t.Helper()
	c, err := s.Engine.Command(s.Layout)
	must(t, err)
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: engineID, Gid: engineID}}
	cmd := execx.Command(context.WithoutCancel(t.Context()), execx.Cmd{Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, Attr: attr})
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, "the server's answer", func() bool { return s.Engine.Ping(t.Context(), s.Layout) == nil })
	return cmd
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("waited 30 s for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// killLosesNothing: what was on the disk is there after a kill, also when the last command was cut in two.
func killLosesNothing(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	cmd := startProcess(t, s)
	c := clientConn(t, s)
	_, err := c.Do("SET", "kept", "yes")
	must(t, err)
	aof := func() string {
		files, err := filepath.Glob(filepath.Join(dataDir(s.Engine, s.Layout), "appendonlydir", "*.incr.aof"))
		if err != nil || len(files) != 1 {
			t.Fatalf("append-only files: %v, %v", files, err)
		}
		return files[0]
	}
	waitFor(t, "the append-only file", func() bool {
		data, err := os.ReadFile(aof())
		return err == nil && bytes.Contains(data, []byte("kept"))
	})
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	f, err := os.OpenFile(aof(), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("*3\r\n$3\r\nSET\r\n$4\r\nha")
	must(t, err)
	must(t, f.Close())
	enginetest.Start(t, s)
	if got, err := redis.String(clientConn(t, s).Do("GET", "kept")); err != nil || got != "yes" {
		t.Errorf("after a kill the value is %q, %v", got, err)
	}
}

// filled starts a server on a small volume and writes until there is no room; it returns the connection and how many values were taken.
func filled(t *testing.T, s enginetest.Setup) (srv *enginetest.Server, c redis.Conn, written int) {
	t.Helper()
	must(t, syscall.Mount("tmpfs", s.Layout.Data, "tmpfs", 0, "size=12m,mode=0755"))
	t.Cleanup(func() { _ = syscall.Unmount(s.Layout.Data, syscall.MNT_DETACH) })
	prepared(t, s, alice())
	srv = enginetest.Start(t, s)
	c = clientConn(t, s)
	waitFor(t, "the volume to be full", func() bool {
		_, err := c.Do("SET", valueKey(written), megabyte)
		if err == nil {
			written++
		}
		return err != nil && strings.Contains(err.Error(), "MISCONF")
	})
	rest, err := os.Create(filepath.Join(s.Layout.Data, "rest"))
	must(t, err)
	for err == nil {
		_, err = rest.WriteString(megabyte[:4096])
	}
	must(t, rest.Close())
	return srv, c, written
}

var megabyte = strings.Repeat("v", 1<<20)

func valueKey(n int) string { return "k" + strconv.Itoa(n) }

// grow gives the volume room and waits until the server writes again.
func grow(t *testing.T, s enginetest.Setup, c redis.Conn) {
	t.Helper()
	must(t, syscall.Mount("tmpfs", s.Layout.Data, "tmpfs", syscall.MS_REMOUNT, "size=64m,mode=0755"))
	waitFor(t, "writes after growth", func() bool {
		_, err := c.Do("SET", "after", "growth")
		return err == nil
	})
}

func wantValues(t *testing.T, c redis.Conn, n int) {
	t.Helper()
	for i := range n {
		if got, err := redis.Int(c.Do("STRLEN", valueKey(i))); err != nil || got != len(megabyte) {
			t.Errorf("value %d of %d has %d bytes, %v", i, n, got, err)
		}
	}
}

// fullVolume: a server without room answers, refuses what it cannot write down, and goes on by itself when there is room. Nothing that it took is lost.
func fullVolume(t *testing.T, s enginetest.Setup) {
	srv, c, written := filled(t, s)
	ctx, l := t.Context(), s.Layout
	must(t, s.Engine.Ping(ctx, l))
	wantValues(t, c, written)
	err := s.Engine.CreateUser(ctx, l, trove.User{Name: "late", Password: "late-pass"})
	if trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("CreateUser on a full volume = %v, want Unavailable", err)
	}
	if users, err := s.Engine.Users(ctx, l); err != nil || len(users) != 1 {
		t.Errorf("users after a change that could not be written: %v, %v", users, err)
	}
	found, err := s.Engine.(engine.Upgrader).CheckUpgrade(ctx, l, "99.1")
	if err != nil || len(found) == 0 || !found[0].Blocks {
		t.Errorf("CheckUpgrade() on a full volume = %v, %v, want it to say no", found, err)
	}
	c = clientConn(t, s) // reading the users again ended the other
	grow(t, s, c)
	must(t, s.Engine.CreateUser(ctx, l, trove.User{Name: "late", Password: "late-pass"}))
	srv.Stop()
	enginetest.Start(t, s)
	wantValues(t, clientConn(t, s), written)
}

// fullVolumeStops: it also stops and starts without room. The command that found no room was taken and is in memory alone: a stop before growth loses it.
func fullVolumeStops(t *testing.T, s enginetest.Setup) {
	srv, _, written := filled(t, s)
	srv.Stop()
	enginetest.Start(t, s)
	c := clientConn(t, s)
	wantValues(t, c, written-1)
	grow(t, s, c)
}

// usersMay: commands of the categories admin and dangerous that are given back.
func usersMay(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	c := clientConn(t, s)
	_, err := c.Do("SET", "k", "v")
	must(t, err)
	dump, err := redis.String(c.Do("DUMP", "k"))
	must(t, err)
	for _, command := range [][]any{
		{"KEYS", "*"},
		{"INFO"},
		{"CLIENT", "LIST"},
		{"SLOWLOG", "GET"},
		{"LATENCY", "LATEST"},
		{"ROLE"},
		{"RESTORE", "k2", "0", dump},
		{"SWAPDB", "0", "1"},
		{"EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "k3"},
		{"PUBLISH", "c", "m"},
		{"MEMORY", "STATS"},
		{"LASTSAVE"},
		{"FLUSHALL"},
	} {
		if _, err := c.Do(command[0].(string), command[1:]...); err != nil {
			t.Errorf("%v: %v", command[:2:2], err)
		}
	}
	if _, err := c.Do("RESTORE", "bad", "0", dump[:len(dump)-1]+"x"); err == nil {
		t.Error("a damaged payload was restored")
	}
	for _, command := range [][]any{{"MONITOR"}, {"CLIENT", "KILL", "TYPE", "normal"}, {"CONFIG", "GET", "*"}, {"BGSAVE"}, {"EVAL", "return redis.call('CONFIG', 'GET', '*')", "0"}} {
		if _, err := c.Do(command[0].(string), command[1:]...); err == nil {
			t.Errorf("%v: alice may", command)
		}
	}
}

func rootMay(t *testing.T, s enginetest.Setup) {
	p := alice()
	p.RootPassword = password
	prepared(t, s, p)
	enginetest.Start(t, s)
	// As clients that know no users do: with a password alone.
	c, err := redis.Dial("tcp", net.JoinHostPort(s.Layout.Address, "6379"), redis.DialPassword(password.Reveal()))
	must(t, err)
	defer func() { _ = c.Close() }()
	for _, command := range [][]any{
		{"CONFIG", "GET", "maxmemory"}, {"CLIENT", "KILL", "TYPE", "pubsub"}, {"BGREWRITEAOF"}, {"SLOWLOG", "RESET"}, {"ACL", "USERS"}, {"MODULE", "LIST"}, {"MONITOR"},
	} {
		if _, err := c.Do(command[0].(string), command[1:]...); err != nil {
			t.Errorf("%v: %v", command, err)
		}
	}
	must(t, s.Engine.DisableRoot(t.Context(), s.Layout))
	waitFor(t, "root's connection to end", func() bool {
		_, err := c.Do("PING")
		return err != nil
	})
	must(t, s.Engine.Ping(t.Context(), s.Layout))
}

func nobodyWithoutPassword(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	c, err := redis.Dial("tcp", net.JoinHostPort(s.Layout.Address, "6379"))
	must(t, err)
	defer func() { _ = c.Close() }()
	for _, command := range [][]any{{"GET", "k"}, {"INFO"}, {"AUTH", ""}, {"AUTH", "default", ""}, {"AUTH", "trove_admin", ""}, {"AUTH", "alice", ""}} {
		if _, err := c.Do(command[0].(string), command[1:]...); err == nil {
			t.Errorf("%v works without a password", command)
		}
	}
}
