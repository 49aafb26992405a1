package familytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// prepared initialises and prepares an engine.
func (c Case) prepared(t *testing.T, p engine.Preparation) enginetest.Setup {
	t.Helper()
	s := c.setup(t)
	c.fill(t, s.Layout)
	p.InstanceID, p.ServerID, p.Settings.RAM = "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55", 7, 512
	must(t, s.Engine.Prepare(t.Context(), s.Layout, p))
	return s
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

func (c Case) passwordsAreNeverWritten(t *testing.T) {
	const user, root trove.Secret = "plain-user-password", "plain-root-password"
	s := c.prepared(t, engine.Preparation{Users: []trove.User{{Name: "alice", Password: user}}, RootPassword: root})
	init := filepath.Join(s.Layout.Runtime, c.Manager, "init.sql")
	info, err := os.Stat(init)
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o400 || stat.Uid != engineID {
		t.Errorf("init file has mode %v and owner %d, want 0400 and %d", info.Mode(), stat.Uid, engineID)
	}
	enginetest.Start(t, s)
	wantFiles := func(when string, absent ...string) {
		t.Helper()
		all := readTree(t, s.Layout.Runtime, s.Layout.State)
		for _, text := range absent {
			if strings.Contains(all, text) {
				t.Errorf("%s: %q is in a file", when, text)
			}
		}
	}
	wantFiles("after Ready", user.Reveal(), root.Reveal(), c.Proof, "alice")
	must(t, s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{Users: []trove.User{{Name: "alice", Password: user}}, RootPassword: root}))
	wantFiles("after Prepare", user.Reveal(), root.Reveal())
	if !strings.Contains(readTree(t, s.Layout.Runtime), c.Proof) {
		t.Error("the hash is in no file after Prepare: this test looks in the wrong place")
	}
}

func (c Case) readyFindsWhatTheFirstStartDidNotMake(t *testing.T) {
	s := c.prepared(t, engine.Preparation{Databases: []trove.Database{{Name: "good"}, {Name: "bad", CharacterSet: "klingon"}}})
	srv := startOnly(t, s)
	defer srv()
	err := s.Engine.Ready(t.Context(), s.Layout)
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("Ready() = %v, want BadRequest that names the database", err)
	}
}

// startOnly runs the server without Ready; the function that it returns stops it.
func startOnly(t *testing.T, s enginetest.Setup) func() {
	t.Helper()
	c, err := s.Engine.Command(s.Layout)
	must(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), c.Path, c.Args...)
	cmd.Env, cmd.SysProcAttr = c.Env, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: engineID, Gid: engineID}}
	must(t, cmd.Start())
	deadline := time.Now().Add(time.Minute)
	for s.Engine.Ping(t.Context(), s.Layout) != nil && time.Now().Before(deadline) {
		<-time.After(20 * time.Millisecond)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

func (c Case) bootEmptiesTheRuntimeDirectory(t *testing.T) {
	cert, key, leaf := certificate(t)
	s := c.prepared(t, engine.Preparation{
		Databases: []trove.Database{{Name: "keep"}}, Users: []trove.User{{Name: "alice", Password: "pw-1"}}, TLSCert: cert, TLSKey: key,
	})
	srv := enginetest.Start(t, s)
	for range 2 {
		if got := c.presented(t, s, "alice", "pw-1"); !got.Equal(leaf) {
			t.Errorf("the server shows another certificate than the given one: %v", got.Subject)
		}
		srv.Stop()
		must(t, os.RemoveAll(filepath.Join(s.Layout.Runtime, c.Manager)))
		srv = enginetest.Start(t, s)
	}
	dbs, err := s.Engine.Databases(t.Context(), s.Layout)
	if err != nil || len(dbs) != 1 || dbs[0].Name != "keep" || dbs[0].CharacterSet != "utf8mb4" {
		t.Errorf("Databases() after the boot = %+v, %v", dbs, err)
	}
}

// presented returns the certificate that the server shows to a client.
func (c Case) presented(t *testing.T, s enginetest.Setup, user string, password trove.Secret) *x509.Certificate {
	t.Helper()
	dir := t.TempDir()
	options := filepath.Join(dir, "client.cnf")
	must(t, os.WriteFile(options, []byte("[client]\npassword="+password.Reveal()+"\n"), 0o600))
	// Debian's own client, over TCP and TLS.
	out, err := exec.CommandContext(t.Context(), c.Client[0], append([]string{"--defaults-file=" + options}, append(c.Client[1:], "--protocol=tcp", "--host="+s.Layout.Address, "--user="+user,
		"--batch", "--skip-column-names", "--execute=SHOW STATUS LIKE 'Ssl_cipher'")...)...).CombinedOutput()
	if err != nil || len(strings.Fields(string(out))) != 2 {
		t.Fatalf("the client: %v: %s, want a TLS cipher", err, out)
	}
	var seen *x509.Certificate
	db := clientTLS(t, s.Layout, user, password, &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			seen = c.PeerCertificates[0]
			return nil
		},
	})
	must(t, db.PingContext(t.Context()))
	return seen
}

func certificate(t *testing.T) (cert, key []byte, leaf *x509.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "given"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	leaf, err = x509.ParseCertificate(der)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), leaf
}

func (c Case) prepareRefusesACertificateWithoutItsKey(t *testing.T) {
	cert, _, _ := certificate(t)
	_, key, _ := certificate(t)
	s := c.setup(t)
	c.fill(t, s.Layout)
	err := s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{TLSCert: cert, TLSKey: key})
	if trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("Prepare() = %v, want BadRequest", err)
	}
}

func (c Case) restartMendsTheAgentsAccount(t *testing.T) {
	s := c.prepared(t, engine.Preparation{RootPassword: "root-pw"})
	srv := enginetest.Start(t, s)
	db := client(t, s.Layout, "root", "root-pw", "")
	_, err := db.ExecContext(t.Context(), "ALTER USER root@localhost IDENTIFIED BY 'mine' ACCOUNT LOCK")
	must(t, err)
	if err := s.Engine.Ping(t.Context(), s.Layout); err == nil {
		t.Fatal("Ping() works although the account is spoilt: this test proves nothing")
	}
	must(t, db.Close())
	srv.Stop()
	enginetest.Start(t, s) // pings
}

func (c Case) initialiseLeavesNoIdentity(t *testing.T) {
	s := c.setup(t)
	half := filepath.Join(s.Layout.Data, "mysql.new")
	must(t, os.Mkdir(half, 0o700)) // of a run that was killed
	must(t, os.WriteFile(filepath.Join(half, "ibdata1"), []byte("half"), 0o600))
	must(t, s.Engine.Initialise(t.Context(), s.Layout))
	for _, pattern := range append([]string{"mysql/*.pem", "mysql/*.pid", "mysql.new"}, c.Identity...) {
		if found, err := filepath.Glob(filepath.Join(s.Layout.Data, pattern)); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v; want none", pattern, found, err)
		}
	}
	must(t, s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{RootPassword: "root-pw"}))
	enginetest.Start(t, s)
	rows, err := client(t, s.Layout, "root", "root-pw", "").QueryContext(t.Context(), c.Accounts)
	must(t, err)
	defer func() { _ = rows.Close() }()
	var accounts []string
	for rows.Next() {
		var a string
		must(t, rows.Scan(&a))
		accounts = append(accounts, a)
	}
	must(t, rows.Err())
	if got := strings.Join(accounts, " "); got != c.Fresh {
		t.Errorf("accounts = %s", got)
	}
}

func (c Case) commandIsForAPreparedServer(t *testing.T) {
	s := c.setup(t)
	if _, err := s.Engine.Command(s.Layout); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("Command() before Prepare = %v, want Conflict", err)
	}
}

// config returns the lines of my.cnf for some settings.
func (c Case) config(t *testing.T, settings engine.Settings) map[string]string {
	t.Helper()
	s := c.setup(t)
	must(t, s.Engine.Configure(t.Context(), s.Layout, settings))
	command, err := s.Engine.Command(s.Layout)
	must(t, err)
	file, found := strings.CutPrefix(command.Args[0], "--defaults-file=")
	if !found {
		t.Fatalf("arguments = %q: the first must be the defaults file", command.Args)
	}
	data, err := os.ReadFile(file)
	must(t, err)
	options := map[string]string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if name, value, found := strings.Cut(line, "="); found {
			options[name] = value // the last one counts, for the server too
		}
	}
	return options
}

func (c Case) settingsFollowTheFlavor(t *testing.T) {
	for ram, want := range map[int][2]string{
		0: {`"64M"`, `"50"`}, 512: {`"128M"`, `"100"`}, 1024: {`"408M"`, `"200"`}, 4096: {`"2048M"`, `"800"`}, 65536: {`"42592M"`, `"10000"`},
	} {
		got := c.config(t, engine.Settings{RAM: ram, ServerID: 9})
		if got["innodb_buffer_pool_size"] != want[0] || got["max_connections"] != want[1] || got["server_id"] != `"9"` {
			t.Errorf("%d MiB: buffer pool %s, connections %s, server id %s, want %v", ram, got["innodb_buffer_pool_size"], got["max_connections"], got["server_id"], want)
		}
	}
}

func (c Case) overridesAreQuotedAndCannotReplaceFixedOptions(t *testing.T) {
	got := c.config(t, engine.Settings{RAM: 512, Overrides: map[string]json.RawMessage{
		"max_connections": json.RawMessage("7"), "init_connect_x": json.RawMessage(`"a\"b\\ # c"`), "general_log": json.RawMessage("true"),
	}})
	for name, want := range map[string]string{"max_connections": `"7"`, "init_connect_x": `"a\"b\\ # c"`, "general_log": `"ON"`} {
		if got[name] != want {
			t.Errorf("%s=%s, want %s", name, got[name], want)
		}
	}
	s := c.setup(t)
	for _, name := range c.New().FixedOptions() {
		for _, spelling := range []string{name, name[:len(name)-1], "loose_" + name, "skip_" + name} {
			err := s.Engine.Configure(t.Context(), s.Layout, engine.Settings{Overrides: map[string]json.RawMessage{spelling: json.RawMessage("1")}})
			if trove.KindOf(err) != trove.KindBadRequest {
				t.Errorf("override %s: %v, want it refused", spelling, err)
			}
		}
	}
}
