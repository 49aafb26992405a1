// Package e2e_test is one file per promise to the user, kept on the real local cloud with real databases: the binaries as they are shipped, a
// state directory of their own, root.
package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// patience is how long anything may take that is expected to take a second.
const patience = 90 * time.Second

var repository = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// cacheDir is shared by the deployments of all tests: the root file system is installed once.
var cacheDir = filepath.Join(repository, "var", "cache")

// binary is a program of this repository, built by TestMain.
func binary(name string) string { return filepath.Join(repository, "bin", name) }

// deployment is a running service with its state directory.
type deployment struct {
	t      testing.TB
	state  string
	listen string
	client *client.Client
	env    []string
}

var shared struct {
	once sync.Once
	d    *deployment
	err  error
}

// sharedDeployment is one service for the tests that leave it as it was.
func sharedDeployment(t *testing.T) *deployment {
	t.Helper()
	shared.once.Do(func() { shared.d, shared.err = newDeployment(filepath.Join(repository, "var", "e2e")) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	d := *shared.d
	d.t = t
	return &d
}

// newDeployment builds the image if it is not there and starts the service.
func newDeployment(state string) (*deployment, error) {
	d := &deployment{state: state, listen: freePort()}
	d.env = append(os.Environ(), "TROVE_CACHE="+cacheDir)
	if out, err := d.try("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "10.11"); err != nil {
		return nil, fmt.Errorf("build the image: %w\n%s", err, out)
	}
	return d, d.start()
}

func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (d *deployment) start() error {
	// Tests ask often: the rate limit has tests of its own.
	d.env = append(os.Environ(), "TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=100", "TROVE_QUOTA_VOLUMES=400", "TROVE_CACHE="+cacheDir)
	if out, err := d.try("dev", "start", "--state", d.state, "--listen", d.listen); err != nil {
		return fmt.Errorf("start the service: %w\n%s\n%s", err, out, d.log())
	}
	if err := d.readOpenrc("openrc"); err != nil {
		return err
	}
	c, err := d.newClient()
	d.client = c
	return err
}

func (d *deployment) log() string {
	data, err := os.ReadFile(filepath.Join(d.state, "log", "trove.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-8000):])
}

// readOpenrc puts the variables of an openrc file into the environment of the commands.
func (d *deployment) readOpenrc(name string) error {
	data, err := os.ReadFile(filepath.Join(d.state, name))
	if err != nil {
		return fmt.Errorf("read the openrc file: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export OS_"); ok {
			d.env = append(d.env, "OS_"+assignment)
		}
	}
	return nil
}

func (d *deployment) getenv(name string) string {
	for _, e := range slices.Backward(d.env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func (d *deployment) newClient() (*client.Client, error) {
	return client.New(client.Config{
		AuthURL: d.getenv("OS_AUTH_URL"), Username: d.getenv("OS_USERNAME"), Password: secret(d.getenv("OS_PASSWORD")),
		Project: d.getenv("OS_PROJECT_NAME"), Region: d.getenv("OS_REGION_NAME"),
	})
}

// try runs the trove program and returns what it said.
func (d *deployment) try(args ...string) (string, error) { return d.tryInput("", args...) }

func (d *deployment) tryInput(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary("trove"), args...)
	cmd.Env, cmd.Dir, cmd.Stdin = d.env, repository, strings.NewReader(input)
	if d.env == nil {
		cmd.Env = os.Environ()
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("trove %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// trove runs the trove program, which must succeed, and returns its standard output.
func (d *deployment) trove(args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	if err != nil {
		d.t.Fatalf("%v\nthe service's log ends:\n%s", err, d.log())
	}
	return out
}

// password of all database users that the tests make; it is made anew for each run.
var password = fmt.Sprintf("pw-%d-%x", os.Getpid(), time.Now().UnixNano())

// create makes an instance with the database app and the user app and waits until it is there; the test's end removes it.
func (d *deployment) create(name string, extra ...string) wire.Instance {
	d.t.Helper()
	i := d.createKept(name, extra...)
	d.t.Cleanup(func() { d.remove(i.ID) })
	return i
}

// createKept is create without the removal.
func (d *deployment) createKept(name string, extra ...string) wire.Instance {
	d.t.Helper()
	args := append([]string{
		"instance", "create", name, "--flavor", "db.tiny", "--size", "1", "--database", "app", "--user", "app",
		"--password-file", "-", "--wait", "-f", "value", "-c", "id",
	}, extra...)
	out, err := d.tryInput(password+"\n", args...)
	if err != nil {
		d.t.Fatalf("%v\nthe service's log ends:\n%s", err, d.log())
	}
	return d.instance(strings.TrimSpace(out))
}

func (d *deployment) instance(id string) wire.Instance {
	d.t.Helper()
	i, err := d.client.Instance(d.t.Context(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	return i
}

// remove deletes an instance and waits until it is gone; one that is gone is fine.
func (d *deployment) remove(id string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.client.DeleteInstance(ctx, id); err != nil && !client.IsNotFound(err) {
		d.t.Errorf("delete %s: %v", id, err)
		return
	}
	for {
		_, err := d.client.Instance(ctx, id)
		if client.IsNotFound(err) {
			return
		}
		if ctx.Err() != nil {
			d.t.Errorf("instance %s is not gone after %s: %v\n%s", id, patience, err, d.log())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// eventually asks until the condition holds.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", limit, what)
}

// open connects to an instance over TCP.
func open(t testing.TB, i wire.Instance, user, pass, database string) *sql.DB {
	t.Helper()
	if len(i.Addresses) == 0 {
		t.Fatalf("instance %s has no address", i.Name)
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, pass, "tcp", net.JoinHostPort(i.Addresses[0].Address, "3306"), database
	cfg.TLSConfig = "skip-verify" // the certificate is the instance's own
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = 5*time.Second, 10*time.Second, 10*time.Second
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func queryString(t testing.TB, db *sql.DB, query string, args ...any) string {
	t.Helper()
	var s string
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

// destroy removes the deployment and says what it left on the machine.
func (d *deployment) destroy(t testing.TB, before hostcheck.Inventory) {
	t.Helper()
	if out, err := d.try("dev", "destroy", "--state", d.state, "--force"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := hostcheck.Left(before, hostcheck.Take(context.Background(), t)); len(left) > 0 {
		t.Errorf("left on the machine:\n  %s", strings.Join(left, "\n  "))
	}
	if _, err := os.Stat(d.state); !os.IsNotExist(err) {
		t.Errorf("the state directory is still there: %v", err)
	}
}
