// Package deployment starts a real service for the end-to-end tests: the binaries as they are shipped, a state directory of its own, root.
//
// A Deployment may be copied: a copy with another T reports to that test. It is used from one goroutine, but for its Client.
package deployment

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/hostcheck"
	"github.com/trove-dbaas/trove/tests/ports"
)

// Patience is how long anything may take that is expected to take a second.
const Patience = 90 * time.Second

// Password of all database users that the tests make; it is made anew for each run.
var Password = fmt.Sprintf("pw-%d-%x", os.Getpid(), time.Now().UnixNano())

// Deployment is a running service with its state directory.
type Deployment struct {
	T      testing.TB
	Root   string // of the repository
	State  string
	Listen string
	Client *client.Client
	Env    []string // of the commands
}

// Build builds the binaries as they are shipped into bin/ of the repository.
func Build(repository string) error {
	cmd := exec.Command("make", "-s", "build")
	cmd.Dir, cmd.Stdout, cmd.Stderr = repository, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the binaries: %w", err)
	}
	return nil
}

// New builds the image if it is not there and starts the service. The root file systems of images are shared by all deployments of the
// repository: they are installed once.
func New(repository, state string) (*Deployment, error) {
	d := &Deployment{Root: repository, State: state, Listen: FreePort()}
	d.Env = append(os.Environ(), "TROVE_CACHE="+filepath.Join(repository, "var", "cache"))
	if out, err := d.Try("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "10.11"); err != nil {
		return nil, fmt.Errorf("build the image: %w\n%s", err, out)
	}
	return d, d.Start()
}

// FreePort returns an address of this machine that nobody listens on.
func FreePort() string {
	port, err := ports.Free()
	if err != nil {
		panic(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Start starts the service, again if it was stopped.
func (d *Deployment) Start() error {
	// Tests ask often: the rate limit has tests of its own.
	d.Env = append(os.Environ(), "TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=100", "TROVE_QUOTA_VOLUMES=400",
		"TROVE_CACHE="+filepath.Join(d.Root, "var", "cache"))
	if out, err := d.Try("dev", "start", "--state", d.State, "--listen", d.Listen); err != nil {
		return fmt.Errorf("start the service: %w\n%s\n%s", err, out, d.LogEnd())
	}
	if err := d.ReadOpenrc("openrc"); err != nil {
		return err
	}
	c, err := d.NewClient()
	d.Client = c
	return err
}

// NewClient returns a client of the API as the user of the environment.
func (d *Deployment) NewClient() (*client.Client, error) {
	return client.New(client.Config{
		AuthURL: d.Getenv("OS_AUTH_URL"), Username: d.Getenv("OS_USERNAME"), Password: trove.Secret(d.Getenv("OS_PASSWORD")),
		Project: d.Getenv("OS_PROJECT_NAME"), Region: d.Getenv("OS_REGION_NAME"),
	})
}

// Admin returns a client of the API as the deployment's administrator.
func (d *Deployment) Admin() (*client.Client, error) {
	a := *d
	a.Env = slices.Clone(d.Env)
	if err := a.ReadOpenrc("openrc-admin"); err != nil {
		return nil, err
	}
	return a.NewClient()
}

// LogFile is the service's log.
func (d *Deployment) LogFile() string { return filepath.Join(d.State, "log", "trove.log") }

// LogEnd returns the end of the service's log.
func (d *Deployment) LogEnd() string {
	data, err := os.ReadFile(d.LogFile())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-8000):])
}

// ReadOpenrc puts the variables of an openrc file into the environment of the commands.
func (d *Deployment) ReadOpenrc(name string) error {
	data, err := os.ReadFile(filepath.Join(d.State, name))
	if err != nil {
		return fmt.Errorf("read the openrc file: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export OS_"); ok {
			d.Env = append(d.Env, "OS_"+assignment)
		}
	}
	return nil
}

// Getenv returns a variable of the commands' environment.
func (d *Deployment) Getenv(name string) string {
	for _, e := range slices.Backward(d.Env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// Try runs the trove program and returns what it said.
func (d *Deployment) Try(args ...string) (string, error) { return d.TryInput("", args...) }

// TryInput is Try with something on the standard input.
func (d *Deployment) TryInput(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(d.Root, "bin", "trove"), args...)
	cmd.Env, cmd.Dir, cmd.Stdin = d.Env, d.Root, strings.NewReader(input)
	if d.Env == nil {
		cmd.Env = os.Environ()
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("trove %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Trove runs the trove program, which must succeed, and returns its standard output.
func (d *Deployment) Trove(args ...string) string {
	d.T.Helper()
	out, err := d.Try(args...)
	if err != nil {
		d.T.Fatalf("%v\nthe service's log ends:\n%s", err, d.LogEnd())
	}
	return out
}

// Create makes an instance with the database app and the user app and waits until it is there; the test's end removes it.
func (d *Deployment) Create(name string, extra ...string) wire.Instance {
	d.T.Helper()
	i := d.CreateKept(name, extra...)
	d.T.Cleanup(func() { d.Remove(i.ID) })
	return i
}

// CreateKept is Create without the removal.
func (d *Deployment) CreateKept(name string, extra ...string) wire.Instance {
	d.T.Helper()
	args := append([]string{
		"instance", "create", name, "--flavor", "db.tiny", "--size", "1", "--database", "app", "--user", "app",
		"--password-file", "-", "--wait", "-f", "value", "-c", "id",
	}, extra...)
	out, err := d.TryInput(Password+"\n", args...)
	if err != nil {
		d.T.Fatalf("%v\nthe service's log ends:\n%s", err, d.LogEnd())
	}
	return d.Instance(strings.TrimSpace(out))
}

// Instance returns what the API says of an instance.
func (d *Deployment) Instance(id string) wire.Instance {
	d.T.Helper()
	i, err := d.Client.Instance(d.T.Context(), id)
	if err != nil {
		d.T.Fatal(err)
	}
	return i
}

// Remove deletes an instance and waits until it is gone; one that is gone is fine.
func (d *Deployment) Remove(id string) {
	d.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := d.Client.DeleteInstance(ctx, id); err != nil && !client.IsNotFound(err) {
		d.T.Errorf("delete %s: %v", id, err)
		return
	}
	for {
		_, err := d.Client.Instance(ctx, id)
		if client.IsNotFound(err) {
			return
		}
		if ctx.Err() != nil {
			d.T.Errorf("instance %s is not gone after %s: %v\n%s", id, Patience, err, d.LogEnd())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Eventually asks until the condition holds.
func Eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", limit, what)
}

// Destroy removes the deployment and says what it left on the machine.
func (d *Deployment) Destroy(t testing.TB, before hostcheck.Inventory) {
	t.Helper()
	if out, err := d.Try("dev", "destroy", "--state", d.State, "--force"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := hostcheck.Left(before, hostcheck.Take(context.Background(), t)); len(left) > 0 {
		t.Errorf("left on the machine:\n  %s", strings.Join(left, "\n  "))
	}
	if _, err := os.Stat(d.State); !os.IsNotExist(err) {
		t.Errorf("the state directory is still there: %v", err)
	}
}
