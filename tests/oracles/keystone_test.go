package oracles_test

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/identitytest"
	"github.com/trove-dbaas/trove/identity/keystone"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/ports"
)

// python is Debian's: another one that comes first in somebody's PATH does not have OpenStack's packages.
const python = "/usr/bin/python3"

// password is everybody's in the Keystone of the tests.
const password = trove.Secret("a password of the tests")

// realKeystone is Debian's Keystone over SQLite in a directory of its own.
type realKeystone struct {
	t      *testing.T
	dir    string
	addr   string
	config string
	server *exec.Cmd
	client *pythonClient
}

// newKeystone makes one and starts it.
func newKeystone(t *testing.T) *realKeystone {
	t.Helper()
	k := &realKeystone{t: t, dir: t.TempDir(), addr: freeAddress(t)}
	for _, dir := range []string{"fernet", "credentials"} {
		if err := os.Mkdir(filepath.Join(k.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k.config = k.configure(time.Hour)
	k.manage("", "db_sync")
	k.letReadersBe()
	k.manage("", "fernet_setup", "--keystone-user", fmt.Sprint(os.Geteuid()), "--keystone-group", fmt.Sprint(os.Getegid()))
	k.manage(password.Reveal()+"\n", "bootstrap", "--bootstrap-region-id", "RegionOne", "--bootstrap-internal-url", k.url(),
		"--bootstrap-public-url", k.url(), "--bootstrap-admin-url", k.url())
	k.start()
	k.client = newClient(t, k.dir)
	return k
}

// letReadersBe makes SQLite keep a log, a property of the file: else a thread of Keystone that reads keeps another from writing.
func (k *realKeystone) letReadersBe() {
	k.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(k.dir, "keystone.db"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(k.t.Context(), "PRAGMA journal_mode = WAL"); err != nil {
		k.t.Fatal(err)
	}
}

// another is a second process over the same database and keys, whose tokens live so long.
func (k *realKeystone) another(life time.Duration) *realKeystone {
	k.t.Helper()
	other := &realKeystone{t: k.t, dir: k.dir, addr: freeAddress(k.t), client: k.client}
	other.config = other.configure(life)
	other.start()
	return other
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := ports.Free()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (k *realKeystone) url() string { return "http://" + k.addr + "/v3" }

func (k *realKeystone) configure(life time.Duration) string {
	k.t.Helper()
	path := filepath.Join(k.dir, fmt.Sprintf("keystone-%d.conf", int(life.Seconds())))
	text := fmt.Sprintf("[database]\nconnection = sqlite:///%[1]s/keystone.db\n[token]\nprovider = fernet\nexpiration = %[2]d\n"+
		"[fernet_tokens]\nkey_repository = %[1]s/fernet\n[credential]\nkey_repository = %[1]s/credentials\n[cache]\nenabled = false\n"+
		"[oslo_messaging_notifications]\ndriver = noop\n[identity]\npassword_hash_rounds = 4\n", k.dir, int(life.Seconds()))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

func environment(dir string, more ...string) []string {
	return append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, more...)
}

func (k *realKeystone) manage(input string, args ...string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), python, append([]string{"keystone/manage.py", "--config-file", k.config}, args...)...)
	cmd.Env, cmd.Stdin = environment(k.dir), strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("keystone-manage %s: %v (scripts/install-packages.sh test installs Keystone)\n%s", args[0], err, out)
	}
}

func (k *realKeystone) start() {
	k.t.Helper()
	host, port, err := net.SplitHostPort(k.addr)
	if err != nil {
		k.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(k.dir, "keystone.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	k.server = exec.Command(python, "keystone/serve.py", host, port)
	k.server.Env, k.server.Stderr = environment(k.dir, "OS_KEYSTONE_CONFIG_FILES="+k.config), log
	out, err := k.server.StdoutPipe()
	if err == nil {
		err = k.server.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.stop)
	k.t.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); err == nil && k.t.Failed() {
			k.t.Logf("Keystone says:\n%s", text[max(0, len(text)-4000):])
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		text, _ := os.ReadFile(log.Name())
		k.t.Fatalf("Keystone did not start: %q %v\n%s", line, err, text)
	}
}

// stop kills it, if it runs.
func (k *realKeystone) stop() {
	if k.server != nil {
		_ = k.server.Process.Kill()
		_ = k.server.Wait()
		k.server = nil
	}
}

// pythonClient is Keystone's own client.
type pythonClient struct {
	in  io.Writer
	out *bufio.Reader
}

func newClient(t *testing.T, dir string) *pythonClient {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, "keystone/client.py")
	cmd.Env, cmd.Stderr = environment(dir), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_ = cmd.Wait()
	})
	return &pythonClient{in, bufio.NewReader(out)}
}

func (c *pythonClient) do(t *testing.T, request map[string]string, answer any) {
	t.Helper()
	if err := json.NewEncoder(c.in).Encode(request); err != nil {
		t.Fatal(err)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(line, &failed); err != nil || failed.Error != "" {
		t.Fatalf("%s: %s %v", request["do"], failed.Error, err)
	}
	if answer != nil {
		if err := json.Unmarshal(line, answer); err != nil {
			t.Fatal(err)
		}
	}
}

var projects = map[string]string{"anna": "blue", "root": "blue", "otto": "red", "trove": "service", "nova": "service"}

func (k *realKeystone) issue(t *testing.T, user string) trove.Secret {
	t.Helper()
	var answer struct{ Token string }
	k.client.do(t, map[string]string{"do": "login", "url": k.url(), "user": user, "password": password.Reveal(), "project": projects[user]}, &answer)
	return trove.Secret(answer.Token)
}

func (k *realKeystone) revoke(t *testing.T, token trove.Secret) {
	t.Helper()
	k.client.do(t, map[string]string{"do": "revoke", "url": k.url(), "token": token.Reveal()}, nil)
}

// driver is our side.
func (k *realKeystone) driver(t *testing.T, change func(*keystone.Config)) *keystone.Authenticator {
	t.Helper()
	cfg := keystone.Config{
		AuthURL: k.url(), Username: "trove", Password: func() (trove.Secret, error) { return password, nil }, Project: "service", Region: "RegionOne",
		ServiceRoles: []string{"service"}, Timeout: 30 * time.Second, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	a, err := keystone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// serveAPI serves the real API in front of a driver, at an address that Keystone's catalogue names.
func serveAPI(t *testing.T, listener net.Listener, auth identity.Authenticator) {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	rules, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := secretsfile.Open(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	conn := membus.New().Conn("api")
	t.Cleanup(func() { _ = conn.Close() })
	handler, err := api.New(api.Config{
		Store: st, Auth: auth, Policy: rules, Guests: guestapi.NewClient(conn), Catalog: fake.New(fake.Options{}), Sealer: sealer,
		Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), NoRateLimit: true, PublicEndpoint: "http://" + listener.Addr().String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
}

// Debian's Keystone, its own client and the official openstack client on one side, the API with our driver on the other.
func TestRealKeystone(t *testing.T) {
	k := newKeystone(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Projects map[string]string }
	k.client.do(t, map[string]string{"do": "setup", "url": k.url(), "password": password.Reveal(), "api": "http://" + listener.Addr().String()}, &made)

	manual := clock.NewManual(clock.System{}.Now())
	serveAPI(t, listener, k.driver(t, func(c *keystone.Config) { c.Clock = manual }))
	a := &caller{t: t, base: "http://" + listener.Addr().String() + "/v1.0/", cacheEnds: func() { manual.Add(keystone.DefaultCacheTime) }}

	t.Run("suite", func(t *testing.T) {
		identitytest.Run(t, func(t *testing.T) identitytest.Service {
			manual := clock.NewManual(clock.System{}.Now())
			return identitytest.Service{
				Authenticator: k.driver(t, func(c *keystone.Config) { c.Clock = manual }),
				Issue:         k.issue, Revoke: k.revoke, Advance: manual.Add, CacheTime: keystone.DefaultCacheTime, Life: time.Hour,
			}
		})
	})
	t.Run("the way of a client", func(t *testing.T) { testClient(t, k, a, made.Projects) })
	t.Run("an expired token", func(t *testing.T) { testExpired(t, k) })
	t.Run("slow", func(t *testing.T) { testSlow(t, k, made.Projects) })
	t.Run("away and back", func(t *testing.T) { testAway(t, k, a, made.Projects) })
}

// caller calls the API.
type caller struct {
	t         *testing.T
	base      string
	cacheEnds func() // lets the time pass for which tokens are known
}

func (c *caller) get(t *testing.T, project string, token trove.Secret) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+project+"/instances", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token.Reveal())
	resp, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func (c *caller) must(t *testing.T, what, project string, token trove.Secret, want int) {
	t.Helper()
	if status, _, body := c.get(t, project, token); status != want {
		t.Errorf("%s: %d %s, want %d", what, status, body, want)
	}
}

// comesTo waits for an answer: the driver's limit may be too short for a Keystone on a busy machine.
func (c *caller) comesTo(t *testing.T, what, project string, token trove.Secret, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if status, _, _ := c.get(t, project, token); status == want {
			return
		}
	}
	c.must(t, what, project, token, want)
}

// openstack runs the official client as a user.
func openstack(t *testing.T, k *realKeystone, user string, args ...string) string {
	t.Helper()
	file := filepath.Join(k.dir, "clouds-"+user+".yaml")
	text := fmt.Sprintf("clouds:\n  test:\n    region_name: RegionOne\n    identity_api_version: 3\n    auth:\n      auth_url: %s\n      username: %s\n"+
		"      password: %s\n      project_name: %s\n      user_domain_name: Default\n      project_domain_name: Default\n",
		k.url(), user, password.Reveal(), projects[user])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/openstack", append([]string{"--os-cloud", "test"}, args...)...)
	cmd.Env = environment(k.dir, "OS_CLIENT_CONFIG_FILE="+file)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openstack %s: %v\n%s", args[0], err, errors.String())
	}
	return strings.TrimSpace(string(out))
}

func testClient(t *testing.T, k *realKeystone, a *caller, projectIDs map[string]string) {
	blue, red := projectIDs["blue"], projectIDs["red"]
	if got := openstack(t, k, "anna", "database", "instance", "list", "-f", "json"); got != "[]" {
		t.Errorf("openstack database instance list says %q", got)
	}
	token := trove.Secret(openstack(t, k, "anna", "token", "issue", "-f", "value", "-c", "id"))
	a.must(t, "a token", blue, token, http.StatusOK)
	a.must(t, "another project", red, token, http.StatusForbidden)
	a.must(t, "an administrator, another project", red, k.issue(t, "root"), http.StatusForbidden)
	status, header, body := a.get(t, blue, token[:len(token)-2]+"xx")
	if status != http.StatusUnauthorized || header.Get("Www-Authenticate") != `Keystone uri="`+k.url()+`"` || !strings.Contains(body, `"title":"Unauthorized"`) {
		t.Errorf("a token that is none: %d %v %s", status, header, body)
	}
	k.revoke(t, token)
	a.cacheEnds()
	a.must(t, "a token that was revoked", blue, token, http.StatusUnauthorized)
}

// The tokens of this Keystone live some seconds, the service user's own too.
func testExpired(t *testing.T, k *realKeystone) {
	const life = 8 * time.Second
	short := k.another(life)
	d := short.driver(t, nil)
	known, unknown := short.issue(t, "anna"), short.issue(t, "anna")
	if _, err := d.Authenticate(t.Context(), identity.Tokens{User: known}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(life + time.Second)
	service, nobody := k.issue(t, "nova"), k.issue(t, "otto") // of the other process: they must live as long as this takes
	for what, token := range map[string]trove.Secret{"known": known, "unknown": unknown} {
		for name, c := range map[string]struct {
			service trove.Secret
			want    bool
		}{"alone": {"", false}, "with a service": {service, true}, "with somebody": {nobody, false}} {
			got, err := d.Authenticate(t.Context(), identity.Tokens{User: token, Service: c.service})
			if (err == nil) != c.want || err != nil && trove.KindOf(err) != trove.KindUnauthorized {
				t.Errorf("a token that has expired, %s, %s: %v", what, name, err)
			}
			if c.want && (got.UserName != "anna" || len(got.ServiceRoles) != 1) {
				t.Errorf("%s: %+v", what, got)
			}
		}
	}
}

// testSlow lets Keystone take requests and answer none: clients are told within the driver's limit, and who is known is served meanwhile.
func testSlow(t *testing.T, k *realKeystone, projectIDs map[string]string) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2 * time.Second
	serveAPI(t, listener, k.driver(t, func(c *keystone.Config) { c.Timeout = limit }))
	a, blue := &caller{t: t, base: "http://" + listener.Addr().String() + "/v1.0/"}, projectIDs["blue"]
	known, unknown := k.issue(t, "anna"), k.issue(t, "anna")
	a.comesTo(t, "before", blue, known, http.StatusOK)
	if err := k.server.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = k.server.Process.Signal(syscall.SIGCONT) }
	defer resume()
	began := time.Now()
	status, _, body := a.get(t, blue, unknown)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "Keystone service") {
		t.Errorf("unknown, Keystone says nothing: %d %s", status, body)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("that took %s", took)
	}
	a.must(t, "known, Keystone says nothing", blue, known, http.StatusOK)
	resume()
	a.comesTo(t, "unknown, Keystone answers again", blue, unknown, http.StatusOK)
}

func testAway(t *testing.T, k *realKeystone, a *caller, projectIDs map[string]string) {
	blue := projectIDs["blue"]
	known, unknown := k.issue(t, "anna"), k.issue(t, "anna")
	a.must(t, "before", blue, known, http.StatusOK)
	k.stop()
	a.must(t, "unknown, Keystone killed", blue, unknown, http.StatusServiceUnavailable)
	a.must(t, "known, Keystone killed", blue, known, http.StatusOK)
	a.cacheEnds()
	a.must(t, "known, its time over", blue, known, http.StatusServiceUnavailable)
	k.start()
	a.must(t, "unknown, Keystone back", blue, unknown, http.StatusOK)
	a.must(t, "known, Keystone back", blue, known, http.StatusOK)
}
