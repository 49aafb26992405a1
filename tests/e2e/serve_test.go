package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// component is a controller in a process of its own.
type component struct {
	name string // trove-<program>, and @<name of the process> if it is a further one
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// parts is a deployment whose controllers are processes of their own.
type parts struct {
	*deployment
	of map[string]*component
}

func (p *parts) logFile(name string) string {
	return filepath.Join(p.state, "log", "trove-"+name+".log")
}

// run starts a component by its own name, as an operator does, and returns when it says that it runs.
func (p *parts) run(name string, args ...string) {
	p.t.Helper()
	program, process, further := strings.Cut(name, "@")
	if further {
		args = append([]string{"--name", process}, args...)
	}
	log, err := os.OpenFile(p.logFile(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		p.t.Fatal(err)
	}
	c := &component{name: name, args: args, done: make(chan struct{})}
	// The context of the test must not end it: dev destroy does.
	c.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), binary("trove-"+program), append([]string{"--state", p.state}, args...)...)
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = p.env, log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	p.of[name] = c
	eventually(p.t, patience, "trove-"+name+" to run", func() bool {
		select {
		case <-c.done:
			p.t.Fatalf("trove-%s ended:\n%s", name, p.logs())
		default:
		}
		data, err := os.ReadFile(p.logFile(name))
		return err == nil && (strings.Contains(string(data[from:]), "service started") || strings.Contains(string(data[from:]), "taskmanager stands by"))
	})
}

// killAndRestart ends a component as a fault does, and starts it again when it is gone and meanwhile has returned.
func (p *parts) killAndRestart(name string, meanwhile func()) {
	p.t.Helper()
	c := p.of[name]
	if err := c.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-c.done
	if out, err := p.try("dev", "status", "--state", p.state); err == nil || !strings.Contains(err.Error(), "missing: trove-"+name) {
		p.t.Errorf("dev status without trove-%s: %v\n%s", name, err, out)
	}
	meanwhile()
	p.run(name, c.args...)
}

func (p *parts) logs() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.of)) {
		data, _ := os.ReadFile(p.logFile(name))
		fmt.Fprintf(&b, "trove-%s:\n%s\n", name, data[max(0, len(data)-6000):])
	}
	return b.String()
}

// newParts starts the three components, those that need the bus before the one that has it; env is what they have besides.
func newParts(t *testing.T, state string, env ...string) *parts {
	t.Helper()
	p := &parts{deployment: &deployment{t: t, state: state, listen: freePort()}, of: map[string]*component{}}
	p.env = append(os.Environ(), "TROVE_CACHE="+filepath.Join(repository, "var", "cache"))
	if out, err := p.try("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "10.11"); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	p.env = slices.Concat(os.Environ(), []string{"TROVE_API_RATE_LIMIT=0", "TROVE_LOG_LEVEL=debug"}, env)
	if err := os.MkdirAll(filepath.Join(state, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.run("conductor", "--metrics-listen", freePort())
	p.run("api", "--listen", p.listen)
	p.run("taskmanager")
	if err := p.readOpenrc("openrc"); err != nil {
		t.Fatal(err)
	}
	c, err := p.newClient()
	if err != nil {
		t.Fatal(err)
	}
	p.client = c
	return p
}

// begin has creates accepted and does not wait for them.
func (p *parts) begin(names ...string) (ids []string) {
	p.t.Helper()
	for _, name := range names {
		out, err := p.tryInput(password+"\n", "instance", "create", name, "--flavor", "db.tiny", "--size", "1", "--database", "app",
			"--user", "app", "--password-file", "-", "-f", "value", "-c", "id")
		if err != nil {
			p.t.Fatalf("%v\n%s", err, p.logs())
		}
		ids = append(ids, strings.TrimSpace(out))
	}
	return ids
}

// TestServe runs the components in three processes: they do together what one process does, and each may be killed while creates run.
func TestServe(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	state := filepath.Join(repository, "var", "e2e-serve")
	destroyed := false
	t.Cleanup(func() {
		if destroyed {
			return
		}
		d := &deployment{t: t, state: state}
		if out, err := d.try("dev", "destroy", "--state", state, "--force"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	p := newParts(t, state)
	first := p.createKept("serve-first")
	db := open(t, first, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (words TEXT)")
	mustExec(t, db, "INSERT INTO t VALUES ('written')")
	if _, err := p.client.Databases(t.Context(), first.ID); err != nil {
		t.Errorf("a question to the guest: %v\n%s", err, p.logs())
	}
	if data, err := os.ReadFile(p.logFile("taskmanager")); err != nil || !strings.Contains(string(data), "woken over the bus") {
		t.Errorf("the taskmanager only found the work by looking: %v\n%s", err, p.logs())
	}
	p.refusesOthers()
	p.tellsMetrics()
	p.survivesKills(first)
	if words := queryString(t, db, "SELECT words FROM t"); words != "written" {
		t.Errorf("the first database says %q", words)
	}
	eventually(t, patience, "the guest to answer through the API", func() bool {
		_, err := p.client.Databases(t.Context(), first.ID)
		return err == nil
	})
	p.destroy(t, before)
	destroyed = true
	for _, c := range p.of {
		select {
		case <-c.done:
		case <-time.After(patience):
			t.Errorf("trove-%s runs after dev destroy", c.name)
		}
	}
}

// survivesKills kills each component while creates run.
func (p *parts) survivesKills(first wire.Instance) {
	p.t.Helper()
	for _, name := range []string{"conductor", "api", "taskmanager"} {
		ids := p.begin("serve-"+name+"-1", "serve-"+name+"-2")
		p.killAndRestart(name, func() {
			if name == "taskmanager" { // the API goes on: work is accepted and waits, questions to guests say that it cannot be now
				ids = append(ids, p.begin("serve-meanwhile")...)
				_, err := p.client.Databases(p.t.Context(), first.ID)
				if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusServiceUnavailable {
					p.t.Errorf("a question to a guest without the taskmanager: %v, want 503", err)
				}
			}
		})
		for _, id := range ids {
			eventually(p.t, patience, "instance "+id+", accepted before trove-"+name+" was killed, to be ACTIVE", func() bool {
				i, err := p.client.Instance(p.t.Context(), id)
				if err == nil && i.Status == "ERROR" {
					p.t.Fatalf("instance %s is in ERROR after trove-%s was killed:\n%s", id, name, p.logs())
				}
				return err == nil && i.Status == "ACTIVE"
			})
			if err := open(p.t, p.instance(id), "app", password, "app").PingContext(p.t.Context()); err != nil {
				p.t.Errorf("login: %v", err)
			}
			p.remove(id)
		}
	}
}

// refusesOthers checks that nothing runs twice.
func (p *parts) refusesOthers() {
	p.t.Helper()
	out := p.trove("dev", "status", "--state", p.state, "--listen", p.listen)
	for _, want := range []string{"trove-api: process", "trove-taskmanager: process", "trove-conductor: process", p.listen} {
		if !strings.Contains(out, want) {
			p.t.Errorf("dev status lacks %q: %s", want, out)
		}
	}
	for command, want := range map[string]string{
		"dev run":               "Single components already run from",
		"dev start":             "Single components already run from",
		"serve api":             "trove-api already runs from",
		"serve conductor":       "trove-conductor already runs from",
		"serve taskmanager api": "already runs from",
		"serve guest":           "api, taskmanager and conductor",
	} {
		args := append(strings.Fields(command), "--state", p.state, "--listen", freePort())
		if _, err := p.try(args...); err == nil || !strings.Contains(err.Error(), want) {
			p.t.Errorf("trove %s beside the components: %v, want %q", command, err, want)
		}
	}
}

func (p *parts) tellsMetrics() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.of["conductor"].args[1]+"/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), "trove_conductor_") || !strings.Contains(string(text), `trove_bus_dropped_messages{conn="reports"} 0`) {
		p.t.Errorf("metrics of trove-conductor: %v\n%s", err, text)
	}
}
