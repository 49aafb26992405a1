// Package hosts_test runs the control plane on two hosts: network namespaces with addresses of their own on a bridge, each with an api, a taskmanager and a
// conductor in processes of their own, over one PostgreSQL, with nothing in common but that and the master key. Guests are real agents over engine/fake in a
// third namespace; the cloud is cloud/fake in the test's process, which hosts reach over HTTP: the local cloud has one machine.
//
// The processes are this test binary, told by its environment what to be.
package hosts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/guestapp"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
	"github.com/trove-dbaas/trove/tests/outside"
)

// What a process is told: the components that it runs with the cloud's URL, or the directory of the guest that it is.
const (
	componentVariable = "HOSTS_TEST_COMPONENT"
	cloudVariable     = "HOSTS_TEST_CLOUD"
	guestVariable     = "HOSTS_TEST_GUEST"
)

const (
	imageID   = "44444444-4444-4444-8444-444444444444"
	versionID = "22222222-2222-4222-8222-222222222222"
	patience  = 90 * time.Second
)

func TestMain(m *testing.M) {
	if err := be(m); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// be is what the environment says, and the tests if it says nothing.
func be(m *testing.M) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch component, guest := os.Getenv(componentVariable), os.Getenv(guestVariable); {
	case component != "":
		return control(ctx, component)
	case guest != "":
		return guestapp.Agent(ctx, guestapp.Options{
			Boot: filepath.Join(guest, "boot.json"), Data: filepath.Join(guest, "data"), Runtime: filepath.Join(guest, "run"), User: "root", Version: "1",
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	outside.LeaveNetwork()
	m.Run()
	dbserver.StopShared()
	return nil
}

// control is a controller's process.
func control(ctx context.Context, component string) error {
	runs, err := app.ParseComponents([]string{component})
	if err != nil {
		return err
	}
	cfg, err := config.Load("", os.Environ())
	if err != nil {
		return err
	}
	open := func(context.Context) (cloud.Provider, func() error, error) {
		return openRemote(os.Getenv(cloudVariable)), func() error { return nil }, nil
	}
	return app.RunOn(ctx, open, cfg, runs, func(string) { fmt.Fprintln(os.Stderr, "it runs") })
}

// world is the network, the database, the cloud and the guests.
type world struct {
	databaseAt string // where hosts reach it
	t          *testing.T
	dir        string // short: sockets are made below it
	prefix     string // of names of namespaces and interfaces
	subnet     string // the first three numbers of addresses
	store      *sqlstore.Store
	cloud      *fake.Cloud
	url        string // of the cloud
	env        []string

	mu     sync.Mutex
	guests map[string]*exec.Cmd
	hosts  []*host
}

// run runs a program that must succeed.
func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	pid := os.Getpid()
	w := &world{t: t, prefix: fmt.Sprintf("tht%x", pid&0xffff), subnet: fmt.Sprintf("10.%d.%d", 192+pid>>8&0x3f, pid&0xff), guests: map[string]*exec.Cmd{}}
	var err error
	if w.dir, err = os.MkdirTemp("", "th"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	w.network()
	w.database()
	w.cloud = fake.New(fake.Options{Images: []string{imageID}, Boot: w.boot, Halt: w.halt})
	w.url = "http://" + w.listen(func(l net.Listener) {
		server := &http.Server{Handler: serveCloud(w.cloud), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
	})
	t.Cleanup(func() {
		for _, h := range w.hosts {
			h.kill()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for id, g := range w.guests {
			end(g)
			w.endEngine(id)
		}
	})
	return w
}

// network makes the bridge, whose address is the test's own, and the namespaces a, b and guests.
func (w *world) network() {
	bridge := w.prefix
	w.t.Cleanup(func() { _ = exec.Command("ip", "link", "del", bridge).Run() })
	run(w.t, "ip", "link", "add", bridge, "type", "bridge")
	run(w.t, "ip", "addr", "add", w.subnet+".1/24", "dev", bridge)
	run(w.t, "ip", "link", "set", bridge, "up")
	for n, name := range []string{"a", "b", "g"} {
		ns, outside, inside := w.prefix+name, w.prefix+name+"o", w.prefix+name+"i"
		w.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		run(w.t, "ip", "netns", "add", ns)
		run(w.t, "ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", ns)
		run(w.t, "ip", "link", "set", outside, "master", bridge, "up")
		run(w.t, "ip", "-n", ns, "link", "set", "lo", "up")
		run(w.t, "ip", "-n", ns, "addr", "add", w.address(n+2)+"/24", "dev", inside)
		run(w.t, "ip", "-n", ns, "link", "set", inside, "up")
	}
}

func (w *world) address(n int) string { return fmt.Sprintf("%s.%d", w.subnet, n) }

// listen opens a port on the bridge and returns its address.
func (w *world) listen(serve func(net.Listener)) string {
	l, err := net.Listen("tcp", w.address(1)+":0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	serve(l)
	return l.Addr().String()
}

// database starts PostgreSQL, which listens on loopback, and lets the bridge reach it.
func (w *world) database() {
	t := w.t
	server := dbserver.Start(t, dbserver.PostgreSQL, dbserver.Options{Sync: true}).Database(t)
	password, err := server.Password()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "password")
	if err := os.WriteFile(file, []byte(password.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := w.listen(func(l net.Listener) { go forward(l, server.Hosts[0]) })
	w.databaseAt = at
	w.env = []string{
		"TROVE_STORE_URL=postgresql://" + server.User + "@" + at + "/" + server.Database, "TROVE_STORE_PASSWORD_FILE=" + file, "TROVE_STORE_TLS=off",
		"TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=1000", "TROVE_QUOTA_VOLUMES=1000",
	}
	if w.store, err = sqlstore.Open(t.Context(), sqlstore.Config{Server: server}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	err = w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "33333333-3333-4333-8333-333333333333", Name: "fake", DefaultVersionID: versionID}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: "33333333-3333-4333-8333-333333333333", Name: "1", Version: "1", Manager: enginefake.Manager, ImageID: imageID,
				Active: true, Capabilities: enginefake.New().Info().Capabilities,
			}))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func forward(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			d, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer d.Close()
			go func() {
				_, _ = io.Copy(d, c)
				_ = d.Close()
			}()
			_, _ = io.Copy(c, d)
		}()
	}
}

// in returns a command of this binary in a namespace; it dies with the test.
func (w *world) in(name string, env ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", w.prefix+name, self) // ip replaces itself by the program
	cmd.Env = append(append(os.Environ(), w.env...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func end(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
}

// boot starts the agent of a machine.
func (w *world) boot(instance string, data []byte) {
	w.halt(instance)
	dir := filepath.Join(w.dir, instance[:8])
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "data"), 0o700), os.WriteFile(filepath.Join(dir, "boot.json"), data, 0o600))
	log, lerr := os.OpenFile(filepath.Join(w.dir, "guest-"+instance[:8]+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	var b bus.BootData
	if err := errors.Join(err, lerr, json.Unmarshal(data, &b)); err != nil {
		w.t.Errorf("boot: %v", err)
		return
	}
	defer log.Close()
	cmd := w.in("g", guestVariable+"="+dir)
	cmd.Stderr, cmd.Stdout = log, log
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := cmd.Start(); err != nil {
		w.t.Errorf("boot: %v", err)
		return
	}
	w.guests[instance] = cmd
}

func (w *world) halt(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cmd := w.guests[instance]; cmd != nil {
		end(cmd)
		delete(w.guests, instance)
		w.endEngine(instance)
	}
}

// endEngine ends the database of a machine whose agent is gone.
func (w *world) endEngine(instance string) {
	ref, err := process.ReadFile(filepath.Join(w.dir, instance[:8], "run", guestagent.PIDFile))
	if err == nil && ref.Alive() {
		_ = syscall.Kill(-ref.PID, syscall.SIGKILL)
	}
}

// host is a machine with three controllers.
type host struct {
	w       *world
	name    string
	address string
	state   string

	mu sync.Mutex
	of map[string]*exec.Cmd
}

// host makes the nth host, which has nothing but its address.
func (w *world) host(n int) *host {
	h := &host{w: w, name: string(rune('a' + n)), address: w.address(n + 2), of: map[string]*exec.Cmd{}}
	h.state = filepath.Join(w.dir, "s"+h.name)
	if err := os.MkdirAll(filepath.Join(h.state, "keys"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.hosts = append(w.hosts, h)
	return h
}

func (h *host) log(component string) string {
	return filepath.Join(h.w.dir, h.name+"-"+component+".log")
}

// start starts one controller and returns when it runs.
func (h *host) start(component string) {
	t := h.w.t
	t.Helper()
	cmd, err := h.begin(component)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.of[component] = cmd
	h.mu.Unlock()
	eventually(t, component+" of host "+h.name+" to run", func() bool {
		data, _ := os.ReadFile(h.log(component))
		if strings.Contains(string(data), "error:") {
			t.Fatalf("%s of host %s does not start:\n%s", component, h.name, data)
		}
		return strings.Contains(string(data), "it runs")
	})
}

func (h *host) begin(component string) (*exec.Cmd, error) {
	log, err := os.Create(h.log(component))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := h.w.in(h.name, componentVariable+"="+component, cloudVariable+"="+h.w.url, "TROVE_STATE="+h.state, "TROVE_API_LISTEN="+h.address+":8779",
		"TROVE_BUS_ADDRESS="+h.address, "TROVE_BUS_NAME="+h.name, "TROVE_BUS_ROUTE_LISTEN="+h.address+":4225", "TROVE_BUS_CREDENTIAL_LIFE=1h")
	cmd.Stderr, cmd.Stdout = log, log
	return cmd, cmd.Start()
}

func (h *host) startAll() {
	h.w.t.Helper()
	for _, c := range []string{"taskmanager", "conductor", "api"} {
		h.start(c)
	}
}

// cut takes the host off the network, and join puts it back.
func (h *host) cut() { run(h.w.t, "ip", "link", "set", h.w.prefix+h.name+"o", "down") }

// It returns when the host reaches the database: what the kernel looked for while the link was down fails for a moment longer.
func (h *host) join() {
	run(h.w.t, "ip", "link", "set", h.w.prefix+h.name+"o", "up")
	address, port, err := net.SplitHostPort(h.w.databaseAt)
	if err != nil {
		h.w.t.Fatal(err)
	}
	eventually(h.w.t, "host "+h.name+" to reach the database", func() bool {
		return exec.Command("ip", "netns", "exec", h.w.prefix+h.name, "bash", "-c", "exec 3<>/dev/tcp/"+address+"/"+port).Run() == nil
	})
}

// kill ends the processes of the host at once.
func (h *host) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.of {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
	for name, c := range h.of {
		_ = c.Wait()
		delete(h.of, name)
	}
}

// stop ends the controllers of the host in order.
func (h *host) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.of {
		_ = c.Process.Signal(syscall.SIGTERM)
	}
	for name, c := range h.of {
		if err := c.Wait(); err != nil {
			h.w.t.Errorf("%s of host %s ended with %v", name, h.name, err)
		}
		delete(h.of, name)
	}
}

// client returns a client of the host's API.
func (h *host) client(password string) *client.Client {
	c, err := client.New(client.Config{
		AuthURL: "http://" + h.address + ":8779/identity/v3", Username: "demo", Password: trove.Secret(password), Project: "demo", Region: "RegionOne",
	})
	if err != nil {
		h.w.t.Fatal(err)
	}
	return c
}

// logs are the ends of all logs.
func (w *world) logs() string {
	files, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	var b strings.Builder
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), data[max(0, len(data)-2500):])
	}
	return b.String()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", patience, what)
}
