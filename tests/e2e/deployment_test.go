// Package e2e_test is one file per promise to the user, kept on the real local cloud with real databases: the binaries as they are shipped, a
// state directory of their own, root.
package e2e_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// patience is how long anything may take that is expected to take a second.
const patience = deploy.Patience

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

// common is the deployment as the shared package has it.
func (d *deployment) common() *deploy.Deployment {
	return &deploy.Deployment{T: d.t, Root: repository, State: d.state, Listen: d.listen, Client: d.client, Env: d.env}
}

func freePort() string { return deploy.FreePort() }

func (d *deployment) start() error {
	c := d.common()
	err := c.Start()
	d.env, d.client = c.Env, c.Client
	return err
}

func (d *deployment) log() string { return d.common().LogEnd() }

// readOpenrc puts the variables of an openrc file into the environment of the commands.
func (d *deployment) readOpenrc(name string) error {
	c := d.common()
	err := c.ReadOpenrc(name)
	d.env = c.Env
	return err
}

func (d *deployment) getenv(name string) string { return d.common().Getenv(name) }

func (d *deployment) newClient() (*client.Client, error) { return d.common().NewClient() }

// try runs the trove program and returns what it said.
func (d *deployment) try(args ...string) (string, error) { return d.common().Try(args...) }

func (d *deployment) tryInput(input string, args ...string) (string, error) {
	return d.common().TryInput(input, args...)
}

// trove runs the trove program, which must succeed, and returns its standard output.
func (d *deployment) trove(args ...string) string {
	d.t.Helper()
	return d.common().Trove(args...)
}

// password of all database users that the tests make; it is made anew for each run.
var password = deploy.Password

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
	return d.common().CreateKept(name, extra...)
}

func (d *deployment) instance(id string) wire.Instance {
	d.t.Helper()
	return d.common().Instance(id)
}

// remove deletes an instance and waits until it is gone; one that is gone is fine.
func (d *deployment) remove(id string) {
	d.t.Helper()
	d.common().Remove(id)
}

// eventually asks until the condition holds.
func eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deploy.Eventually(t, limit, what, holds)
}

// open connects to an instance over TCP.
func open(t testing.TB, i wire.Instance, user, pass, database string) *sql.DB {
	t.Helper()
	return deploy.Open(t, i, user, pass, database)
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
	d.common().Destroy(t, before)
}
