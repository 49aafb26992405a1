// Package apibench_test measures trove-api as a process of its own on one processor, with wrk on the other one, over SQLite and PostgreSQL. `make bench-api`
// runs it and keeps the table; nothing else does, because it takes minutes.
package apibench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

var (
	evidence = flag.String("evidence", "", "file that the table is appended to")
	program  = flag.String("program", "../../bin/trove", "the service")
)

// each is how long one measurement takes.
const each = 10 * time.Second

// The limits that must be kept, in answers a second, on SQLite; a page must not become slower with the table by more than slack.
var limits = map[string]float64{"list": 3000, "show": 8000, "configurations": 1000, "instances": 300}

const (
	slack = 0.85
	page  = 20
)

// api is the process that is measured.
type api struct {
	b     *testing.B
	kind  string
	state string
	url   string // with the project
	token trove.Secret
	store *sqlstore.Store
	cmd   *exec.Cmd
	first string // id of a row
	rows  int
}

var web = &http.Client{Timeout: 10 * time.Second}

// figure is what wrk says.
type figure struct {
	rate     float64
	p50, p99 string
}

func BenchmarkAPI(b *testing.B) {
	for _, kind := range []string{"sqlite", dbserver.PostgreSQL} {
		b.Run(kind, func(b *testing.B) {
			a := start(b, kind)
			out("\n| %s: what | answers/s | p50 | p99 |\n| --- | --- | --- | --- |\n", kind)
			a.measure("version document", "", "", a.root())
			var small float64 // with the first full page
			for _, rows := range []int{10, 1000, 10000} {
				a.fill(rows)
				f := a.measure(fmt.Sprintf("`GET /instances?limit=%d`, %d rows", page, rows), "", "", fmt.Sprintf("%s/instances?limit=%d", a.url, page))
				a.keeps("list", f.rate)
				switch {
				case rows < page:
				case small == 0:
					small = f.rate
				case f.rate < slack*small:
					a.fails("a page of %d rows is answered %.0f times a second, one of fewer rows %.0f times", rows, f.rate, small)
				}
			}
			a.keeps("show", a.measure("`GET /instances/{id}`", "", "", a.url+"/instances/"+a.first).rate)
			a.keeps("configurations", a.measure("`POST /configurations`, durable", http.MethodPost,
				`{"configuration":{"name":"g","values":{"max_connections":100}}}`, a.url+"/configurations").rate)
			a.keeps("instances", a.measure("`POST /instances`, accepted, durable", http.MethodPost,
				`{"instance":{"name":"n","flavorRef":"1","volume":{"size":1}}}`, a.url+"/instances").rate)
			out("\nResident after it: %.1f MiB.\n", a.resident())
		})
	}
}

// start makes a store with a datastore and starts trove-api over it, alone: what it accepts waits for a taskmanager that does not come.
func start(b *testing.B, kind string) *api {
	b.Helper()
	a := &api{b: b, kind: kind, state: b.TempDir()}
	cfg := sqlstore.Config{Path: filepath.Join(a.state, "store.db")}
	env := append(os.Environ(), "GOMAXPROCS=1", "TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=-1", "TROVE_QUOTA_VOLUMES=-1", "TROVE_LOG_LEVEL=warn")
	if kind != "sqlite" {
		cfg = sqlstore.Config{Server: dbserver.Start(b, kind, dbserver.Options{Sync: true}).Database(b)}
		password, err := cfg.Server.Password()
		if err != nil {
			b.Fatal(err)
		}
		file := filepath.Join(a.state, "password")
		if err := os.WriteFile(file, []byte(password.Reveal()+"\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		env = append(env, "TROVE_STORE_URL="+kind+"://"+cfg.Server.User+"@"+cfg.Server.Hosts[0]+"/"+cfg.Server.Database, "TROVE_STORE_PASSWORD_FILE="+file)
	}
	var err error
	if a.store, err = sqlstore.Open(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.store.Close() })
	a.offer()
	listen := deploy.FreePort()
	log, err := os.Create(filepath.Join(a.state, "api.log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	a.cmd = exec.CommandContext(context.WithoutCancel(b.Context()), "taskset", "-c", "0", *program, "serve", "api", "--state", a.state, "--listen", listen)
	a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = env, log, log
	if err := a.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		_ = a.cmd.Wait()
	})
	a.url = "http://" + listen
	deploy.Eventually(b, time.Minute, "trove-api to answer", func() bool {
		r, err := web.Get(a.url + "/")
		if err == nil {
			_ = r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
	a.login()
	return a
}

// offer writes what instances and groups need, as an image does.
func (a *api) offer() {
	a.b.Helper()
	e := mariadb.New(slog.New(slog.DiscardHandler), clock.System{})
	err := a.store.InTx(a.b.Context(), func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "mariadb", DefaultVersionID: "v"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: "v", DatastoreID: "d", Name: "10.11", Version: "10.11", Manager: "mariadb", ImageID: "i", Active: true, Capabilities: e.Info().Capabilities,
			}),
			tx.ReplaceParameters(ctx, "v", e.Parameters()),
		)
	})
	if err != nil {
		a.b.Fatal(err)
	}
}

// login gets a token as the deployment's user.
func (a *api) login() {
	a.b.Helper()
	d := &deploy.Deployment{T: a.b, State: a.state}
	if err := d.ReadOpenrc("openrc"); err != nil {
		a.b.Fatal(err)
	}
	domain := map[string]string{"name": "Default"}
	body, err := json.Marshal(map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": d.Getenv("OS_USERNAME"), "password": d.Getenv("OS_PASSWORD"), "domain": domain},
		}},
		"scope": map[string]any{"project": map[string]any{"name": d.Getenv("OS_PROJECT_NAME"), "domain": domain}},
	}})
	if err != nil {
		a.b.Fatal(err)
	}
	r, err := web.Post(a.url+"/identity/v3/auth/tokens", "application/json", bytes.NewReader(body))
	if err != nil {
		a.b.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		Token struct{ Project struct{ ID string } }
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || r.StatusCode != http.StatusCreated {
		a.b.Fatalf("log in: status %d, %v", r.StatusCode, err)
	}
	a.token = trove.Secret(r.Header.Get("X-Subject-Token"))
	a.url += "/v1.0/" + answer.Token.Project.ID
}

func (a *api) root() string {
	base, _, _ := strings.Cut(a.url, "/v1.0")
	return base + "/"
}

// fill inserts instances until there are so many.
func (a *api) fill(rows int) {
	a.b.Helper()
	project := a.url[strings.LastIndex(a.url, "/")+1:]
	for a.rows < rows {
		err := a.store.InTx(a.b.Context(), func(ctx context.Context, tx store.Tx) error {
			for range min(500, rows-a.rows) {
				a.rows++
				a.first = trove.NewID()
				now := time.Now().UTC().Truncate(time.Second)
				err := tx.InsertInstance(ctx, trove.Instance{
					ID: a.first, ProjectID: project, Name: fmt.Sprintf("row-%05d", a.rows), Created: now, Updated: now, ServerStatus: trove.ServerActive,
					Task: trove.TaskNone, DatastoreVersionID: "v", FlavorID: "1", VolumeSize: 1, Region: "RegionOne",
					Addresses: []trove.Address{{Address: fmt.Sprintf("10.99.%d.%d", a.rows/250, a.rows%250+1), Type: "private", Network: trove.NewID()}},
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			a.b.Fatal(err)
		}
	}
}

var (
	rate    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	latency = regexp.MustCompile(`(?m)^\s+(50|99)%\s+(\S+)`)
)

// measure runs wrk from the other processor, and writes a row.
func (a *api) measure(what, method, body, url string) figure {
	a.b.Helper()
	script := filepath.Join(a.state, "wrk.lua") // a file: the token must not be in a command line
	lua := fmt.Sprintf("wrk.headers[\"X-Auth-Token\"] = %q\n", a.token.Reveal())
	if method != "" {
		lua += fmt.Sprintf("wrk.method = %q\nwrk.body = %q\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", method, body)
	}
	if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
		a.b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(a.b.Context(), each+time.Minute)
	defer cancel()
	said, err := exec.CommandContext(ctx, "taskset", "-c", "1", "wrk", "-t1", "-c8", "-d"+each.String(), "--latency", "-s", script, url).CombinedOutput()
	text := string(said)
	if found := rate.FindStringSubmatch(text); err != nil || found == nil || strings.Contains(text, "Non-2xx") || strings.Contains(text, "Socket errors") {
		log, _ := os.ReadFile(filepath.Join(a.state, "api.log"))
		a.b.Fatalf("%s: %v\n%s\n%s", what, err, text, log[max(0, len(log)-2000):])
	}
	var f figure
	f.rate, _ = strconv.ParseFloat(rate.FindStringSubmatch(text)[1], 64)
	for _, m := range latency.FindAllStringSubmatch(text, -1) {
		if m[1] == "50" {
			f.p50 = m[2]
		} else {
			f.p99 = m[2]
		}
	}
	out("| %s | %.0f | %s | %s |\n", what, f.rate, f.p50, f.p99)
	return f
}

// keeps compares with the limit, which is SQLite's: with a server there are two processes beside the API's.
func (a *api) keeps(what string, rate float64) {
	a.b.Helper()
	if a.kind == "sqlite" && rate < limits[what] {
		a.fails("%s: %.0f/s, the limit is %.0f/s", what, rate, limits[what])
	}
}

func (a *api) fails(format string, args ...any) {
	a.b.Helper()
	text := fmt.Sprintf(format, args...)
	out("\nNOT KEPT: %s\n\n", text)
	a.b.Error(text)
}

// resident returns the memory of the process in MiB.
func (a *api) resident() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", a.cmd.Process.Pid))
	if err != nil {
		a.b.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(data))[1], 64)
	if err != nil {
		a.b.Fatal(err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

func out(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprint(os.Stderr, text)
	if *evidence == "" {
		return
	}
	f, err := os.OpenFile(*evidence, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	_, _ = f.WriteString(text)
	_ = f.Close()
}

// TestFiguresAreRead reads what wrk prints.
func TestFiguresAreRead(t *testing.T) {
	const text = "  Latency Distribution\n     50%    1.02ms\n     75%    1.24ms\n     99%    4.80ms\n  1000 requests in 1.00s\nRequests/sec:   3782.12\n"
	if m := rate.FindStringSubmatch(text); m == nil || m[1] != "3782.12" {
		t.Errorf("the rate is %v", m)
	}
	if m := latency.FindAllStringSubmatch(text, -1); len(m) != 2 || m[0][2] != "1.02ms" || m[1][2] != "4.80ms" {
		t.Errorf("the latencies are %v", m)
	}
}
