package postgresql_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

// prepared initialises and prepares an engine.
func prepared(t testing.TB, p engine.Preparation) enginetest.Setup {
	t.Helper()
	s := setup(t)
	fill(t, s.Layout)
	prepare(t, s, p)
	return s
}

func prepare(t testing.TB, s enginetest.Setup, p engine.Preparation) {
	t.Helper()
	p.InstanceID, p.ServerID, p.Settings.RAM, p.Settings.VCPUs = "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55", 7, 512, 1
	must(t, s.Engine.Prepare(t.Context(), s.Layout, p))
}

// shop is a database with two users.
func shop() engine.Preparation {
	return engine.Preparation{
		Databases: []trove.Database{{Name: "shop"}, {Name: "other"}},
		Users:     []trove.User{{Name: "alice", Password: "pw-a", Databases: []string{"shop"}}, {Name: "bob", Password: "pw-b", Databases: []string{"shop", "other"}}},
	}
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

// TestPasswordsAreNeverWritten looks for them in all files, the data and the log of all statements among them.
func TestPasswordsAreNeverWritten(t *testing.T) {
	secrets := []string{"plain-user-password", "plain-root-password", "plain-later-password", "plain-changed-password"}
	p := engine.Preparation{Users: []trove.User{{Name: "alice", Password: trove.Secret(secrets[0])}}, RootPassword: trove.Secret(secrets[1])}
	p.Settings.Overrides = map[string]json.RawMessage{"log_statement": json.RawMessage(`"all"`), "log_min_duration_statement": json.RawMessage("0")}
	s := prepared(t, p)
	srv := enginetest.Start(t, s)
	must(t, s.Engine.CreateUser(t.Context(), s.Layout, trove.User{Name: "bob", Password: trove.Secret(secrets[2])}))
	changed := trove.Secret(secrets[3])
	must(t, s.Engine.UpdateUser(t.Context(), s.Layout, "bob", "", engine.UserChange{Password: &changed}))
	if err := s.Engine.CreateUser(t.Context(), s.Layout, trove.User{Name: "bob", Password: changed}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("a user that is there: %v", err) // an error, which the server may log with its statement
	}
	wantAnswer(t, client(t, s.Layout, "alice", trove.Secret(secrets[0]), ""), "SELECT 'seen-in-the-log'", "seen-in-the-log")
	if text := logged(t, s.Layout, "seen-in-the-log"); strings.Contains(text, "SCRAM-SHA-256") {
		t.Errorf("the log of all statements:\n%s", text)
	}
	srv.Stop()
	all := readTree(t, s.Layout.Data, s.Layout.Runtime, s.Layout.State)
	for _, secret := range secrets {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in a file", secret)
		}
	}
	if !strings.Contains(all, "SCRAM-SHA-256$") {
		t.Error("no verifier is in a file: this test looks in the wrong place")
	}
}

func TestReadyFindsWhatCannotBeMade(t *testing.T) {
	s := prepared(t, engine.Preparation{Databases: []trove.Database{{Name: "good"}, {Name: "bad", CharacterSet: "klingon"}}, RootPassword: "pw-root"})
	stop := startOnly(t, s)
	defer stop()
	err := s.Engine.Ready(t.Context(), s.Layout)
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(err.Error(), "klingon") {
		t.Errorf("Ready() = %v, want BadRequest that names the character set", err)
	}
	if c, err := connect(t.Context(), s.Layout, "postgres", "pw-root", "", believing); err == nil {
		_ = c.Close(t.Context())
		t.Error("a client came in before the first start was whole")
	}
}

func TestBootEmptiesTheRuntimeDirectory(t *testing.T) {
	s := prepared(t, shop())
	srv := enginetest.Start(t, s)
	for range 2 {
		wantAnswer(t, client(t, s.Layout, "alice", "pw-a", "shop"), "SELECT current_user || ' ' || session_user", "owner_of_shop alice")
		srv.Stop()
		must(t, os.RemoveAll(filepath.Join(s.Layout.Runtime, "postgresql")))
		srv = enginetest.Start(t, s)
	}
}

// TestEachInstanceHasAnIdentifierOfItsOwn: copies of one data directory must not be taken for each other.
func TestEachInstanceHasAnIdentifierOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"11111111-2f4f-4b0c-9a43-0b7b8d6f6a55", "22222222-2f4f-4b0c-9a43-0b7b8d6f6a55"} {
		s := setup(t)
		fill(t, s.Layout)
		golden, err := postgresql.SystemOf(filepath.Join(s.Layout.Data, "pgsql"))
		must(t, err)
		seen[golden] = true
		for range 2 { // repeated, it stays
			p := shop()
			p.InstanceID, p.RootPassword = id, "pw-root"
			must(t, s.Engine.Prepare(t.Context(), s.Layout, p))
		}
		enginetest.Start(t, s)
		system, err := postgresql.SystemOf(filepath.Join(s.Layout.Data, "pgsql"))
		must(t, err)
		wantAnswer(t, client(t, s.Layout, "postgres", "pw-root", ""), "SELECT system_identifier FROM pg_control_system()", system)
		if seen[system] {
			t.Errorf("the identifier %s is another's too", system)
		}
		seen[system] = true
	}
}

func TestInitialiseLeavesNoIdentity(t *testing.T) {
	s := setup(t)
	half := filepath.Join(s.Layout.Data, "pgsql.new")
	must(t, os.Mkdir(half, 0o700)) // of a run that was killed
	must(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("half"), 0o600))
	must(t, s.Engine.Initialise(t.Context(), s.Layout))
	for _, pattern := range []string{"pgsql/*.pid", "pgsql/*.crt", "pgsql/*.key", "pgsql.new"} {
		if found, err := filepath.Glob(filepath.Join(s.Layout.Data, pattern)); err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v; want none", pattern, found, err)
		}
	}
	if text := readTree(t, filepath.Join(s.Layout.Data, "pgsql")); regexp.MustCompile(`(?m)^(local|host).*\btrust$`).MatchString(text) || strings.Contains(text, "SCRAM-SHA-256$") {
		t.Error("somebody may log in without a password, or there is one")
	}
	must(t, s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{InstanceID: "x", RootPassword: "root-pw"}))
	enginetest.Start(t, s)
	c := client(t, s.Layout, "postgres", "root-pw", "")
	wantAnswer(t, c, "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_'", "postgres trove_admin")
	wantAnswer(t, c, "SELECT rolname FROM pg_roles WHERE rolsuper", "trove_admin")
	wantAnswer(t, c, "SHOW data_checksums", "on")
	wantAnswer(t, c, "SELECT bool_and(pg_encoding_to_char(encoding) = 'UTF8' AND datcollate = 'C.UTF-8')::text FROM pg_database", "true")
}

func TestCommandIsForAPreparedServer(t *testing.T) {
	s := setup(t)
	if _, err := s.Engine.Command(s.Layout); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("Command() before Prepare = %v, want Conflict", err)
	}
}

func TestPrepareRefusesACertificateWithoutItsKey(t *testing.T) {
	cert, _ := enginetest.Certificate(t, "one")
	_, key := enginetest.Certificate(t, "other")
	s := setup(t)
	fill(t, s.Layout)
	if err := s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{TLSCert: cert, TLSKey: key}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("Prepare() = %v, want BadRequest", err)
	}
}

// config returns the lines of postgresql.conf for some settings.
func config(t *testing.T, settings engine.Settings) map[string]string {
	t.Helper()
	s := setup(t)
	must(t, s.Engine.Configure(t.Context(), s.Layout, settings))
	c, err := s.Engine.Command(s.Layout)
	must(t, err)
	file, found := strings.CutPrefix(c.Args[len(c.Args)-1], "config_file=")
	if !found {
		t.Fatalf("arguments = %q: the last must be the configuration file", c.Args)
	}
	data, err := os.ReadFile(file)
	must(t, err)
	options := map[string]string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if name, value, found := strings.Cut(line, " = "); found {
			if _, twice := options[name]; twice {
				t.Errorf("%s is there twice", name)
			}
			options[name] = value
		}
	}
	return options
}

func TestSettingsFollowTheFlavor(t *testing.T) {
	for ram, want := range map[int][4]string{
		0: {"64MB", "192MB", "50", "4MB"}, 512: {"128MB", "384MB", "56", "4MB"}, 2048: {"512MB", "1536MB", "224", "4MB"},
		16384: {"4096MB", "12288MB", "1792", "4MB"}, 65536: {"16384MB", "49152MB", "5000", "4MB"},
	} {
		got := config(t, engine.Settings{RAM: ram, VCPUs: 2})
		have := [4]string{got["shared_buffers"], got["effective_cache_size"], got["max_connections"], got["work_mem"]}
		for i := range want {
			if have[i] != "'"+want[i]+"'" {
				t.Errorf("%d MiB: %v, want %v", ram, have, want)
				break
			}
		}
	}
}

func TestOverridesAreQuotedAndCannotReplaceFixedOptions(t *testing.T) {
	got := config(t, engine.Settings{RAM: 512, Overrides: map[string]json.RawMessage{
		"max_connections": json.RawMessage("7"), "search_path": json.RawMessage(`"a'b\\ # c"`), "autovacuum": json.RawMessage("false"),
	}})
	for name, want := range map[string]string{"max_connections": `'7'`, "search_path": `'a''b\\ # c'`, "autovacuum": `'off'`, "fsync": `'on'`} {
		if got[name] != want {
			t.Errorf("%s = %s, want %s", name, got[name], want)
		}
	}
	s := setup(t)
	for _, name := range postgresql.Forbidden {
		err := s.Engine.Configure(t.Context(), s.Layout, engine.Settings{Overrides: map[string]json.RawMessage{name: json.RawMessage("1")}})
		if trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("override %s: %v, want it refused", name, err)
		}
	}
	derived := newEngine().Defaults(engine.Settings{})
	for name := range got { // what is neither forbidden nor follows from the flavor is somebody's to change by accident
		if _, ok := derived[name]; !ok && !slices.Contains(postgresql.Forbidden, name) && !slices.Contains([]string{"search_path", "autovacuum"}, name) {
			t.Errorf("%s is set by the driver and may be overridden", name)
		}
	}
}

// TestLogIsBoundToItsFile cuts the log as the agent does, and looks that the server goes on at its end.
func TestLogIsBoundToItsFile(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	source := newEngine()
	must(t, source.SetLog(t.Context(), s.Layout, "general", true))
	logs, err := source.Logs(t.Context(), s.Layout)
	must(t, err)
	must(t, os.Truncate(logs[0].Path, 0))
	for i := range 3 {
		wantAnswer(t, client(t, s.Layout, "alice", "pw-a", "shop"), "SELECT 'line-"+strconv.Itoa(i)+"'", "line-"+strconv.Itoa(i))
	}
	if text := logged(t, s.Layout, "line-2"); !strings.Contains(text, "alice@shop") || strings.Contains(text, "\x00") {
		t.Errorf("the log after it was cut: %q", text)
	}
}

// logged waits until a text is in the log, which another process writes, and returns all of it.
func logged(t *testing.T, l engine.Layout, want string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		text := readTree(t, filepath.Join(l.Data, "pgsql-log"))
		if strings.Contains(text, want) {
			return text
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not in the log:\n%s", want, text)
		}
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
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	}
}

func raw(overrides map[string]string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, value := range overrides {
		out[name] = json.RawMessage(value)
	}
	return out
}

// single runs statements in a server for one user, who may do everything.
func single(t *testing.T, l engine.Layout, major int, database string, statements ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), fmt.Sprintf("/usr/lib/postgresql/%d/bin/postgres", major), "--single", "-D", filepath.Join(l.Data, "pgsql"), "-c", "exit_on_error=on", database)
	cmd.Stdin, cmd.Env = strings.NewReader(strings.Join(statements, "\n")+"\n"), []string{"LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: engineID, Gid: engineID}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a server for one user: %v: %s", err, out)
	}
}
