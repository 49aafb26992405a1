package openstack_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/guestagent"
	guestprocess "github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// guests are simulated: the server of an instance is a real one, with an image that has no system, and what would run in it runs on this machine. The agent is the
// one that is shipped, over an engine that keeps its data in files. It starts when Nova says that the server runs, with the server's own user data, and dies
// without a word when Nova says that it does not. An emulated guest takes most of a minute for each of its starts, which would be hours for a walk.
type guests struct {
	t     *testing.T
	cloud func() *openstack.Cloud
	dir   string // short: sockets are made below it

	mu     sync.Mutex
	mute   bool // no agent runs: nothing in the image calls
	wanted map[string]bool
	of     map[string]*simulated
	cancel context.CancelFunc
	done   chan struct{}
}

// simulated is a guest whose server runs.
type simulated struct {
	cmd    *exec.Cmd
	exited chan struct{}
	server string
	data   string // the user data that it was started with
}

// look is how often Nova is asked for the servers.
const lookAtServers = 700 * time.Millisecond

func newGuests(t *testing.T, cloud func() *openstack.Cloud) *guests {
	t.Helper()
	dir, err := os.MkdirTemp("", "tof") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g := &guests{t: t, cloud: cloud, dir: dir, wanted: map[string]bool{}, of: map[string]*simulated{}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		for ctx.Err() == nil {
			g.look(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(lookAtServers):
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-g.done
		for id := range g.of {
			g.halt(id)
		}
		_ = os.RemoveAll(dir)
	})
	return g
}

// add has the guest of an instance simulated from now on.
func (g *guests) add(instance string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wanted[instance] = true
}

// forget ends the guest of an instance that is gone, and its data.
func (g *guests) forget(instance string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.wanted, instance)
	g.halt(instance)
	_ = os.RemoveAll(g.home(instance))
}

func (g *guests) silence(mute bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mute = mute
}

func (g *guests) home(instance string) string { return filepath.Join(g.dir, instance[:8]) }

// look does what the servers do.
func (g *guests) look(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.wanted {
		server, data, known := g.running(ctx, id)
		if !known {
			continue // Nova does not answer: guests do not notice
		}
		now := g.of[id]
		if now != nil && (now.server != server || now.data != data || now.dead()) {
			g.halt(id)
			now = nil
		}
		if now == nil && server != "" && !g.mute {
			g.boot(id, server, data)
		}
	}
}

func (s *simulated) dead() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// powerOn is Nova's number of that state.
const powerOn = 1

// running returns the server of an instance that has power, with its user data.
func (g *guests) running(ctx context.Context, instance string) (server, data string, known bool) {
	var answer struct {
		Servers []struct {
			ID    string
			Power int    `json:"OS-EXT-STS:power_state"`
			Data  string `json:"OS-EXT-SRV-ATTR:user_data"`
		}
	}
	path := "/servers/detail?all_tenants=1&name=" + url.QueryEscape("^trove-"+instance+"$")
	if err := g.cloud().Ask(ctx, http.MethodGet, "admin", "compute", path, nil, &answer); err != nil {
		return "", "", false
	}
	for _, s := range answer.Servers {
		if s.Power == powerOn {
			return s.ID, s.Data, true
		}
	}
	return "", "", true
}

func (g *guests) boot(instance, server, data string) {
	text, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		g.t.Errorf("user data of server %s: %v", server, err)
		return
	}
	machine, err := machinedata.Parse(text)
	if err != nil {
		g.t.Errorf("user data of server %s: %v", server, err)
		return
	}
	boot, err := json.Marshal(machine.Boot)
	home := g.home(instance)
	err = errors.Join(err, os.MkdirAll(filepath.Join(home, "data"), 0o700), os.MkdirAll(filepath.Join(home, "run"), 0o711),
		os.WriteFile(filepath.Join(home, "boot.json"), boot, 0o600))
	log, lerr := os.OpenFile(filepath.Join(g.dir, "guest-"+instance[:8]+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err := errors.Join(err, lerr); err != nil {
		g.t.Errorf("guest of %s: %v", instance, err)
		return
	}
	defer log.Close()
	s := &simulated{server: server, data: data, exited: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(repository, "bin", "trove-guestagent"), "agent", "--boot", filepath.Join(home, "boot.json"),
		"--data", filepath.Join(home, "data"), "--run", filepath.Join(home, "run"), "--user", "root", "--address", "127.0.0.1")
	s.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := onLastingThread(s.cmd.Start); err != nil {
		g.t.Errorf("guest of %s: %v", instance, err)
		return
	}
	go func() { _ = s.cmd.Wait(); close(s.exited) }()
	g.of[instance] = s
}

// halt takes the power away.
func (g *guests) halt(instance string) {
	s := g.of[instance]
	if s == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.exited
	delete(g.of, instance)
	pid := filepath.Join(g.home(instance), "run", guestagent.PIDFile)
	if ref, err := guestprocess.ReadFile(pid); err == nil && ref.Alive() {
		_ = syscall.Kill(-ref.PID, syscall.SIGKILL)
	}
	_ = os.RemoveAll(filepath.Join(g.home(instance), "run")) // it is in the machine's memory
}
