package openstack_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// controller is where guests and clients find the service: the lab's host on its management network.
const controller = "10.77.0.1"

// securityGroup is that of the guests' management ports. Others may try their own on the same lab.
var securityGroup = cmp.Or(os.Getenv("LAB_GROUP"), "trove-story")

// service is a deployment over the lab: the three processes as they are shipped, their state in a directory of its own.
type service struct {
	t      *testing.T
	dir    string
	listen string
	runs   map[string]*process
	crash  string // the program that dies where it is told to, "" for none: it is the taskmanager then

	more []string // options of bootstrap besides the usual ones

	guestPorts map[string]string // what guests talk to, by what it is
	metrics    map[string]string // addresses by part
}

// process is one of them.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// parts are the processes, those that need the bus before the one that has it.
var parts = []string{"conductor", "api", "taskmanager"}

// newService prepares the lab as an operator prepares his cloud, with the images given, and starts the processes. They end with the test.
func newService(t *testing.T, images ...string) *service {
	t.Helper()
	return newServiceAt(t, controller, "state", nil, images...)
}

// newServiceAt is newService on an address of its own, with its state in a directory of its own, bootstrapped with more options.
func newServiceAt(t *testing.T, address, dir string, more []string, images ...string) *service {
	t.Helper()
	s := &service{t: t, dir: filepath.Join(repository, "var", "openstack", dir), runs: map[string]*process{}, metrics: map[string]string{}, more: more}
	for _, part := range parts {
		s.metrics[part] = net.JoinHostPort("127.0.0.1", freePorts(t, 1)[0])
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 4)
	s.listen = net.JoinHostPort(address, ports[0])
	s.guestPorts = map[string]string{"bus": ports[1], "enrolment": ports[2], "object gateway": ports[3]}
	config := fmt.Sprintf(`# What an operator writes; "trove openstack bootstrap" adds what it made.
cloud: openstack
bus: {address: %[8]s, port: %[2]s, enrol_port: %[3]s}
objects: {port: %[4]s}
api: {listen: "%[5]s", rate_limit: 0, listeners: [{listen: "%[7]s"}]}
identity: {driver: keystone, auth_url: "http://%[1]s:5000/v3", service_roles: [admin]}
openstack: {auth_url: "http://%[1]s:5000/v3", public_network: public, management_security_group: %[6]s}
log: {level: debug}
`, controller, ports[1], ports[2], ports[3], s.listen, securityGroup, s.metrics["api"], address)
	s.write("trove.yaml", config)
	s.servicePassword()
	s.bootstrap(images...)
	for _, part := range parts {
		s.start(part)
	}
	t.Cleanup(func() {
		for _, part := range slices.Backward(parts) {
			s.stop(part, syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("the state with all logs: %s\n%s", s.dir, s.logs())
		}
	})
	return s
}

func (s *service) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// servicePassword takes the lab's password for the service user if the lab has made one, as a second run on the same lab has: else bootstrap makes it.
func (s *service) servicePassword() {
	s.t.Helper()
	kept := filepath.Join(state, "secrets", "user-trove")
	password, err := os.ReadFile(kept)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"keystone-password", "openstack-password"} {
		s.write(filepath.Join("keys", name), string(password))
	}
}

// bootstrap is the operator's one command.
func (s *service) bootstrap(images ...string) {
	s.t.Helper()
	args := []string{
		"openstack", "bootstrap", "--state", s.dir, "--admin-rc", filepath.Join(state, "adminrc"), "--instances", "20", "--host", "lab1",
		"--network-type", "flat", "--physical-network", "mgmt", "--cidr", "10.77.0.0/24", "--public-url", "http://" + s.listen, "--replace-endpoints",
		"--flavor", "db.tiny:512:1:4", "--flavor", "db.small:768:1:5",
		"--write-config", filepath.Join(s.dir, "trove.yaml"),
	}
	args = append(args, s.more...)
	for _, image := range images {
		args = append(args, "--image", image)
	}
	if shared {
		args = append(args, "--only", "security-group,image,datastore-version,flavor,user,role,network,subnet,project")
	}
	s.t.Logf("trove openstack bootstrap:\n%s", s.trove(args...))
}

// trove runs the trove program, which must succeed.
func (s *service) trove(args ...string) string {
	s.t.Helper()
	return s.troveAs(nil, args...)
}

// troveAs is trove with the variables of somebody's login.
func (s *service) troveAs(rc map[string]string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(repository, "bin", "trove"), args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + s.dir}
	for name, value := range rc {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("trove %s: %v\n%s%s", strings.Join(args, " "), err, out, complaint.String())
	}
	return string(out)
}

func (s *service) logFile(part string) string { return filepath.Join(s.dir, "trove-"+part+".log") }

// start starts a process and returns when it says that it runs.
func (s *service) start(part string, env ...string) {
	s.t.Helper()
	log, err := os.OpenFile(s.logFile(part), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	before, err := log.Seek(0, 2)
	if err != nil {
		s.t.Fatal(err)
	}
	args := []string{"--state", s.dir}
	if part != "api" {
		args = append(args, "--metrics-listen", s.metrics[part])
	}
	program := filepath.Join(repository, "bin", "trove-"+part)
	if part == "taskmanager" && s.crash != "" {
		program, args = s.crash, append([]string{"serve", part}, args...)
	}
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + s.dir}, env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onLastingThread(p.cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	s.runs[part] = p
	eventually(s.t, 2*time.Minute, "trove-"+part+" to run", func() bool {
		if !s.running(part) {
			s.t.Fatalf("trove-%s ended:\n%s", part, s.logs())
		}
		data, err := os.ReadFile(s.logFile(part))
		return err == nil && strings.Contains(string(data[before:]), "service started")
	})
}

// onLastingThread runs f on a thread that is there as long as the tests: the kernel ends a process with Pdeathsig when the thread ends that has started it, and
// threads that were in another network namespace end at any time.
var onLastingThread = func() func(func() error) error {
	work, done := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range work {
			done <- f()
		}
	}()
	return func(f func() error) error {
		work <- f
		return <-done
	}
}()

func (s *service) running(part string) bool {
	select {
	case <-s.runs[part].done:
		return false
	default:
		return true
	}
}

// stop ends a process and waits for it.
func (s *service) stop(part string, signal syscall.Signal) {
	p := s.runs[part]
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		s.t.Errorf("trove-%s did not end within a minute of %s", part, signal)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	delete(s.runs, part)
}

// cloudChanges is what the service has asked the cloud to do so far, that is, all requests that do not only look, with the rights of whomever.
func (s *service) cloudChanges() (lines []string) {
	s.t.Helper()
	for _, part := range parts {
		for line := range strings.Lines(get(s.t, "http://"+s.metrics[part]+"/metrics")) {
			if strings.HasPrefix(line, "trove_openstack_requests_total{") && !strings.Contains(line, `method="GET"`) && !strings.Contains(line, `service="Keystone"`) {
				lines = append(lines, part+" "+strings.TrimSpace(line))
			}
		}
	}
	return lines
}

// asked is how long the taskmanager has waited for answers of Neutron and Cinder so far.
func (s *service) asked() time.Duration {
	s.t.Helper()
	var sum float64
	for line := range strings.Lines(get(s.t, "http://"+s.metrics["taskmanager"]+"/metrics")) {
		for _, service := range []string{"Neutron", "Cinder"} {
			if value, ok := strings.CutPrefix(line, `trove_openstack_request_seconds_sum{service="`+service+`"} `); ok {
				seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					s.t.Fatal(err)
				}
				sum += seconds
			}
		}
	}
	return time.Duration(sum * float64(time.Second))
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", url, answer.Status, err)
	}
	return string(text)
}

// logs are the ends of all.
func (s *service) logs() string {
	var b strings.Builder
	for _, part := range parts {
		data, _ := os.ReadFile(s.logFile(part))
		fmt.Fprintf(&b, "trove-%s:\n%s\n", part, data[max(0, len(data)-4000):])
	}
	return b.String()
}

// client is our own, for what the official one cannot say: operations and their steps.
func (s *service) client(user string) *client.Client {
	s.t.Helper()
	rc, err := openstack.ReadRC(filepath.Join(state, user+"rc"))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := client.Config{
		AuthURL: rc["OS_AUTH_URL"], Username: rc["OS_USERNAME"], Password: trove.Secret(rc["OS_PASSWORD"]), Project: rc["OS_PROJECT_NAME"],
		HTTP: &http.Client{Timeout: time.Minute},
	}
	if shared {
		cfg.Endpoint = "http://" + s.listen + "/v1.0/" + lab(s.t).Project(rc["OS_PROJECT_NAME"])
	}
	c, err := client.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// freePorts are ports of the controller's address that nobody has now.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(controller, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // all at once, so that none is given twice
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}
