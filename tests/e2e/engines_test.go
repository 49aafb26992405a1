package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
)

// story is one version of an engine, with how its own client is used.
type story struct {
	datastore, version string
	next               string // the version that it is upgraded to, "": to none
	databases          bool   // has named databases, on which users have rights
	root               string
	// ask runs one statement by the engine's own client, over TLS, believing nothing but the authorities in the file, and returns what it printed.
	ask func(t *testing.T, s session, statement string) (string, error)
	// write makes something to be found again by read, which prints "42".
	write, read string
	// A parameter that a running server takes and one that needs a restart, each with a value and the statement that reads it.
	dynamic, static parameter
	// logName is a log that can be switched on, and provoke what leaves a line with the word in it.
	logName, provoke, word string
	always                 bool // that log cannot be switched
}

type parameter struct{ name, value, read, printed string }

// session is who asks which database.
type session struct {
	instance             wire.Instance
	user, pass, database string
	authorities          string // file
}

func (s session) host() string { return s.instance.Addresses[0].Address }

// program runs an engine's client. Its secrets are in files or its input.
func program(t *testing.T, stdin string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Env = strings.NewReader(stdin), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func askMySQL(t *testing.T, s session, statement string) (string, error) {
	t.Helper()
	file := secretFile(t, fmt.Sprintf("[client]\nuser=%q\npassword=%q\n", s.user, s.pass))
	args := []string{
		"--defaults-extra-file=" + file, "--host=" + s.host(), "--ssl-ca=" + s.authorities, "--ssl-verify-server-cert", "--batch", "--skip-column-names",
		"--connect-timeout=10", "--execute=" + statement,
	}
	if s.database != "" {
		args = append(args, s.database)
	}
	return program(t, "", nil, "mariadb", args...)
}

func askPostgreSQL(t *testing.T, s session, statement string) (string, error) {
	t.Helper()
	file := secretFile(t, fmt.Sprintf("%s:*:*:%s:%s\n", s.host(), s.user, s.pass))
	dsn := fmt.Sprintf("host=%s user=%s dbname=%s sslmode=verify-full sslrootcert=%s connect_timeout=10", s.host(), s.user, orDefault(s.database, "postgres"), s.authorities)
	return program(t, "", []string{"PGPASSFILE=" + file}, "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname="+dsn, "--command="+statement)
}

// askRedis logs in by its input, so that the password is in no argument.
func askRedis(t *testing.T, s session, statement string) (string, error) {
	t.Helper()
	out, err := program(t, "AUTH "+s.user+" "+s.pass+"\n"+statement+"\n", nil, "redis-cli", "-h", s.host(), "-p", redisTLSPort, "--tls", "--cacert", s.authorities)
	if err != nil {
		return "", err
	}
	answer, ok := strings.CutPrefix(out, "OK")
	if !ok {
		return "", fmt.Errorf("redis-cli: %s", out)
	}
	answer = strings.TrimSpace(answer)
	if regexp.MustCompile(`^(ERR|NOPERM|WRONGPASS|NOAUTH|READONLY)`).MatchString(answer) {
		return "", fmt.Errorf("redis-cli: %s", answer)
	}
	return answer, nil
}

// redisTLSPort is where Redis and Valkey speak TLS.
const redisTLSPort = "6380"

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// mysqlStory is what MariaDB and MySQL have in common.
func mysqlStory(datastore, version, next string) story {
	return story{
		datastore: datastore, version: version, next: next, databases: true, root: "root", ask: askMySQL,
		write: "CREATE TABLE t (a INT); INSERT INTO t VALUES (42)", read: "SELECT a FROM t",
		dynamic: parameter{"max_connections", "77", "SELECT @@global.max_connections", "77"},
		static:  parameter{"innodb_sort_buffer_size", "2097152", "SELECT @@global.innodb_sort_buffer_size", "2097152"},
		logName: "general", provoke: "SELECT 'a word for the log'", word: "a word for the log",
	}
}

// postgreSQLStory is the same for all versions of PostgreSQL.
func postgreSQLStory(version, next string) story {
	return story{
		datastore: "postgresql", version: version, next: next, databases: true, root: "postgres", ask: askPostgreSQL,
		write: "CREATE TABLE t (a INT); INSERT INTO t VALUES (42)", read: "SELECT a FROM t",
		dynamic: parameter{"default_statistics_target", "77", "SHOW default_statistics_target", "77"},
		static:  parameter{"max_locks_per_transaction", "100", "SHOW max_locks_per_transaction", "100"},
		logName: "general", provoke: "SELECT 'a word for the log'", word: "a word for the log",
	}
}

// redisStory is what Redis and Valkey have in common. Users may not read parameters: what they change shows in what the server does.
func redisStory(datastore, version, next string) story {
	return story{
		datastore: datastore, version: version, next: next, root: "default", ask: askRedis,
		write: "SET answer 42", read: "GET answer",
		dynamic: parameter{
			"maxmemory-policy", `"allkeys-lru"`, `EVAL "return string.match(redis.call('INFO','memory'),'maxmemory_policy:(%S+)')" 0`, "allkeys-lru",
		},
		static:  parameter{"databases", "32", `EVAL "return redis.pcall('SELECT',20)['err'] and 'few' or 'many'" 0`, "many"},
		logName: "error", provoke: "PING", word: "Ready to accept connections", always: true,
	}
}

// stories are all versions that have a recipe; TestEveryRecipeHasAStory compares.
var stories = []story{
	mysqlStory("mariadb", "10.11", "11.8"),
	mysqlStory("mariadb", "11.8", ""),
	mysqlStory("mysql", "9.7", ""),
	postgreSQLStory("15", "17"),
	postgreSQLStory("17", ""),
	postgreSQLStory("18", ""),
	redisStory("redis", "7", "8"),
	redisStory("redis", "8", ""),
	redisStory("valkey", "8", ""),
}

func TestEveryRecipeHasAStory(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "image", "recipes", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("recipes: %q, %v", files, err)
	}
	known := map[string]bool{}
	for _, s := range stories {
		known[s.datastore+"-"+s.version+".json"] = true
	}
	for _, f := range files {
		if !known[filepath.Base(f)] {
			t.Errorf("%s has no story", filepath.Base(f))
		}
	}
	if len(known) != len(files) {
		t.Errorf("%d stories for %d recipes", len(known), len(files))
	}
}

// TestStories drives each engine and version through its life by the official client alone, and its databases by the engine's own client over TLS.
func TestStories(t *testing.T) {
	d := sharedDeployment(t)
	for _, s := range stories {
		t.Run(s.datastore+" "+s.version, func(t *testing.T) {
			d := *d
			d.t = t
			for _, version := range []string{s.version, s.next} {
				if version == "" {
					continue
				}
				if out, err := d.try("image", "build", "--state", d.state, "--datastore", s.datastore, "--datastore-version", version); err != nil {
					t.Fatalf("build the image of %s: %v\n%s", version, err, out)
				}
				eventually(t, patience, "the service to see the image", func() bool {
					_, err := d.try("datastore", "version", "show", s.datastore, version)
					return err == nil
				})
			}
			(&telling{story: s, deployment: &d, name: "story-" + strings.ReplaceAll(s.datastore+"-"+s.version, ".", "-")}).run(t)
		})
	}
}

// telling is a story that is being told.
type telling struct {
	story
	*deployment

	name, id    string
	authorities string // file
}

func (s *telling) run(t *testing.T) {
	args := []string{"database", "instance", "create", s.name, "--flavor", "1", "--size", "1", "--datastore", s.datastore, "--datastore-version", s.version, "--users", "anna:" + password}
	if s.databases {
		args = append(args, "--databases", "shop")
	}
	made := openstackJSON[map[string]any](s.deployment, args...)
	id, ok := made["id"].(string)
	if !ok {
		t.Fatalf("create: %v", made)
	}
	s.id = id
	t.Cleanup(func() { s.remove(id) })
	s.settled(t, "the create")
	s.authorities = secretFile(t, s.trove("ssl", "ca", id))
	s.mustAsk(t, "anna", password, s.write)
	s.mustRead(t, "the create")
	for name, part := range map[string]func(t *testing.T){"contents": s.contents, "root": s.rootAccount, "log": s.logs} {
		t.Run(name, part)
	}
	s.configuration(t)
	for _, change := range []struct {
		what   string
		action []string
	}{
		{"a restart", []string{"restart", s.name}},
		{"a larger volume", []string{"resize", "volume", s.name, "2"}},
		{"a larger flavor", []string{"resize", "flavor", s.name, "2"}},
		{"a smaller flavor", []string{"resize", "flavor", s.name, "1"}},
	} {
		s.mustOpenstack(append([]string{"database", "instance"}, change.action...)...)
		s.settled(t, change.what)
		s.mustRead(t, change.what)
	}
	if i := s.instance(id); i.Volume.Size != 2 || i.Flavor.ID != "1" {
		t.Errorf("after the resizes: %d GiB, flavor %s", i.Volume.Size, i.Flavor.ID)
	}
	if s.next != "" {
		s.mustOpenstack("database", "instance", "upgrade", s.name, s.next)
		s.settled(t, "the upgrade")
		s.mustRead(t, "the upgrade")
		if i := s.instance(id); i.Datastore.Version == nil || *i.Datastore.Version != s.next {
			t.Errorf("after the upgrade: %+v", i.Datastore)
		}
	}
	s.mustOpenstack("database", "instance", "delete", s.name)
	eventually(t, patience, "the instance to be gone", func() bool {
		_, err := s.openstack("database", "instance", "show", s.id)
		return err != nil
	})
}

// settled waits until the instance is as it should be, as the official client shows it.
func (s *telling) settled(t *testing.T, what string) {
	t.Helper()
	eventually(t, 2*patience, what+" to end", func() bool {
		got := openstackJSON[map[string]any](s.deployment, "database", "instance", "show", s.id)
		return t.Failed() || got["status"] == "ERROR" || got["status"] == "ACTIVE" && got["operating_status"] == "HEALTHY"
	})
	if i := s.instance(s.id); i.Status != "ACTIVE" || i.Fault != nil {
		t.Fatalf("after %s: %s, %+v", what, i.Status, i.Fault)
	}
}

func (s *telling) session(user, pass string) session {
	database := ""
	if s.databases {
		database = "shop"
	}
	return session{s.instance(s.id), user, pass, database, s.authorities}
}

func (s *telling) mustAsk(t *testing.T, user, pass, statement string) string {
	t.Helper()
	out, err := s.ask(t, s.session(user, pass), statement)
	if err != nil {
		t.Errorf("%s: %v", statement, err)
	}
	return out
}

func (s *telling) mustRead(t *testing.T, what string) {
	t.Helper()
	if got := s.mustAsk(t, "anna", password, s.read); got != "42" {
		t.Errorf("after %s: read %q", what, got)
	}
}

// contents are users and databases.
func (s *telling) contents(t *testing.T) {
	type table = []map[string]any
	d := *s.deployment
	d.t = t
	if s.databases {
		d.mustOpenstack("database", "db", "create", s.id, "second")
		if got := openstackJSON[table](&d, "database", "db", "list", s.id); len(got) != 2 {
			t.Errorf("db list: %v", got)
		}
		defer d.mustOpenstack("database", "db", "delete", s.id, "second")
	}
	args := []string{"database", "user", "create", s.id, "bert", "bert-" + password}
	if s.databases {
		args = append(args, "--databases", "shop")
	}
	d.mustOpenstack(args...)
	if got := openstackJSON[table](&d, "database", "user", "list", s.id); len(got) != 2 {
		t.Errorf("user list: %v", got)
	}
	if got := s.mustAsk(t, "bert", "bert-"+password, s.read); got != "42" {
		t.Errorf("bert reads %q", got)
	}
	if _, err := s.ask(t, s.session("bert", password), s.read); err == nil {
		t.Error("bert came in with another's password")
	}
	d.mustOpenstack("database", "user", "delete", s.id, "bert")
	if _, err := s.ask(t, s.session("bert", "bert-"+password), s.read); err == nil {
		t.Error("bert came in after he was deleted")
	}
}

func (s *telling) rootAccount(t *testing.T) {
	d := *s.deployment
	d.t = t
	root := openstackJSON[map[string]any](&d, "database", "root", "enable", s.id)
	if root["name"] != s.root {
		t.Errorf("root enable: %v, want %s", root["name"], s.root)
	}
	pass, _ := root["password"].(string)
	if got := s.mustAsk(t, s.root, pass, s.read); got != "42" {
		t.Errorf("root reads %q", got)
	}
	d.mustOpenstack("database", "root", "disable", s.id)
	if _, err := s.ask(t, s.session(s.root, pass), s.read); err == nil {
		t.Error("root came in after it was disabled")
	}
}

func (s *telling) logs(t *testing.T) {
	d := *s.deployment
	d.t = t
	if !s.always {
		d.mustOpenstack("database", "log", "set", s.id, s.logName, "--enable")
		defer d.mustOpenstack("database", "log", "set", s.id, s.logName, "--disable")
	}
	eventually(t, patience, "the log to have the line", func() bool {
		s.mustAsk(t, "anna", password, s.provoke)
		d.mustOpenstack("database", "log", "set", s.id, s.logName, "--publish")
		return t.Failed() || strings.Contains(d.trove("log", "cat", s.id, s.logName), s.word)
	})
	d.mustOpenstack("database", "log", "set", s.id, s.logName, "--discard")
}

// configuration changes a parameter both ways: at once and by a restart.
func (s *telling) configuration(t *testing.T) {
	for _, c := range []struct {
		parameter
		status string
	}{{s.dynamic, "ACTIVE"}, {s.static, "RESTART_REQUIRED"}} {
		if c.name == "" {
			continue
		}
		before := s.mustAsk(t, "anna", password, c.read)
		group := openstackJSON[map[string]any](s.deployment, "database", "configuration", "create", s.name+"-"+c.name, fmt.Sprintf(`{%q: %s}`, c.name, c.value),
			"--datastore", s.datastore, "--datastore-version", s.version)
		id, _ := group["id"].(string)
		s.mustOpenstack("database", "configuration", "attach", s.id, id)
		eventually(t, patience, c.name+" to be taken", func() bool { return s.instance(s.id).Status == c.status })
		if c.status == "RESTART_REQUIRED" {
			s.mustOpenstack("database", "instance", "restart", s.id)
			s.settled(t, "the restart for "+c.name)
		}
		if got := s.mustAsk(t, "anna", password, c.read); got != c.printed {
			t.Errorf("%s is %q, want %s", c.name, got, c.printed)
		}
		s.mustOpenstack("database", "configuration", "detach", s.id)
		if c.status == "RESTART_REQUIRED" {
			eventually(t, patience, c.name+" to be taken back", func() bool { return s.instance(s.id).Status == c.status })
			s.mustOpenstack("database", "instance", "restart", s.id)
			s.settled(t, "the restart without "+c.name)
		}
		if got := s.mustAsk(t, "anna", password, c.read); got != before {
			t.Errorf("without the group %s is %q, before %q", c.name, got, before)
		}
		s.mustOpenstack("database", "configuration", "delete", id)
	}
}
