package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/openstack"
	"github.com/trove-dbaas/trove/tests/openstack/simulated"
)

// What guests and clients reach, and the network that both sides use.
const (
	controller = "10.77.0.1"
	management = "trove-management"
	tenant     = "tenant"
	flavorName = "db.tiny"
	imageName  = "lab-tiny"
	datastore  = "fake"
)

// parts are the processes, those that need the bus before the one that has it.
var parts = []string{"conductor", "api", "taskmanager"}

// service is our processes as they are shipped, and the guests of their servers.
type service struct {
	options
	lab     *openstack.Cloud
	metrics map[string]string
	runs    map[string]*exec.Cmd
	client  *client.Client
	guests  *simulated.Guests

	wait sync.WaitGroup
	stop context.CancelFunc
}

func start(ctx context.Context, o options, lab *openstack.Cloud) (*service, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &service{options: o, lab: lab, metrics: map[string]string{}, runs: map[string]*exec.Cmd{}, stop: stop}
	err := errors.Join(os.RemoveAll(o.dir), os.MkdirAll(filepath.Join(o.dir, "keys"), 0o700))
	if err == nil {
		err = s.prepare(ctx)
	}
	if err == nil {
		err = s.datastore(ctx)
	}
	for _, part := range parts {
		if err == nil {
			err = s.begin(ctx, part)
		}
	}
	if err == nil {
		err = s.people(ctx)
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// prepare is what the operator does.
func (s *service) prepare(ctx context.Context) error {
	ports, err := freePorts(ctx, 4+len(parts))
	if err != nil {
		return err
	}
	for n, part := range parts {
		s.metrics[part] = net.JoinHostPort("127.0.0.1", ports[4+n])
	}
	listen := net.JoinHostPort(controller, ports[0])
	text := fmt.Sprintf(`cloud: openstack
bus: {address: %s, port: %s, enrol_port: %s}
objects: {port: %s}
api: {listen: "%s", rate_limit: 0, listeners: [{listen: "%s"}]}
identity: {driver: keystone, auth_url: "http://%[1]s:5000/v3", service_roles: [admin]}
openstack: {auth_url: "http://%[1]s:5000/v3", default_network: %[7]s}
workers: {operations: %[8]d}
quota: {instances: -1, volumes: -1}
`, controller, ports[1], ports[2], ports[3], listen, s.metrics["api"], tenant, s.parallel)
	password, err := os.ReadFile(filepath.Join(s.options.lab, "secrets", "user-trove"))
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"trove.yaml": []byte(text), "keys/keystone-password": password, "keys/openstack-password": password,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	cmd := s.command(ctx, "trove", "openstack", "bootstrap", "--state", s.dir, "--admin-rc", filepath.Join(s.options.lab, "adminrc"),
		"--instances", strconv.Itoa(s.large+10), "--replicas", "0", "--controllers", "1", "--host", "lab1", "--network-type", "flat", "--physical-network", "mgmt",
		"--cidr", "10.77.0.0/24", "--public-url", "http://"+listen, "--replace-endpoints", "--write-config", filepath.Join(s.dir, "trove.yaml"))
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("trove openstack bootstrap: %w\n%s", err, said)
	}
	return nil
}

func (s *service) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + s.dir}
	return cmd
}

// datastore registers the datastore version whose engine stores nothing: no image of it can be built.
func (s *service) datastore(ctx context.Context) error {
	image, err := s.imageID(ctx)
	if err != nil {
		return err
	}
	st, err := sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(s.dir, "store.db")})
	if err != nil {
		return err
	}
	ds, version := trove.NewID(), trove.NewID()
	err = st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: ds, Name: datastore, DefaultVersionID: version}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: version, DatastoreID: ds, Name: "1", Version: "1", Manager: enginefake.Manager, ImageID: image, Active: true,
				Capabilities: enginefake.New().Info().Capabilities,
			}))
	})
	return errors.Join(err, st.Close())
}

func (s *service) logFile(part string) string { return filepath.Join(s.dir, "trove-"+part+".log") }

// begin starts a process and returns when it says that it runs.
func (s *service) begin(ctx context.Context, part string) error {
	log, err := os.OpenFile(s.logFile(part), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{"--state", s.dir}
	if part != "api" {
		args = append(args, "--metrics-listen", s.metrics[part])
	}
	cmd := s.command(context.WithoutCancel(ctx), "trove-"+part, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.runs[part] = cmd
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		data, err := os.ReadFile(s.logFile(part))
		if err != nil {
			return err
		}
		if strings.Contains(string(data), "service started") {
			return nil
		}
	}
	return fmt.Errorf("trove-%s does not run; %s says why", part, s.logFile(part))
}

// people are the tenant with his client, and the guests.
func (s *service) people(ctx context.Context) error {
	rc, err := openstack.ReadRC(filepath.Join(s.options.lab, "demorc"))
	if err != nil {
		return err
	}
	s.client, err = client.New(client.Config{
		AuthURL: rc["OS_AUTH_URL"], Username: rc["OS_USERNAME"], Password: trove.Secret(rc["OS_PASSWORD"]), Project: rc["OS_PROJECT_NAME"],
	})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "guests.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if s.guests, err = simulated.New(s.lab, "trove-", slog.New(slog.NewTextHandler(log, nil))); err != nil {
		return errors.Join(err, log.Close())
	}
	s.wait.Go(func() {
		defer func() { _ = log.Close() }()
		s.guests.Run(ctx, time.Second)
	})
	return nil
}

// end ends everything.
func (s *service) end() {
	for _, part := range slices.Backward(parts) {
		if cmd := s.runs[part]; cmd != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait()
			timer.Stop()
		}
	}
	s.stop()
	s.wait.Wait()
}

// page reads the metrics of a process.
func (s *service) page(ctx context.Context, part string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics[part]+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := (&http.Client{Timeout: time.Minute}).Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// freePorts are ports of the controller's address that nobody has now.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(controller, "0"))
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at once, so that none is given twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}
