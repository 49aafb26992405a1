package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/tests/dbserver"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// TestTwoOfEach runs on each kind of store two api, two taskmanager (one stands by) and two conductor processes, and kills each of the first ones in turn while creates run: what was
// accepted is finished by the others, and a client that has both addresses of the API and tries again sees no failed request.
func TestTwoOfEach(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { twoOfEach(t, nil) })
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{Sync: true}).Database(t)
			password, err := server.Password()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte(password.Reveal()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			twoOfEach(t, []string{
				"TROVE_STORE_URL=" + kind + "://" + server.User + "@" + server.Hosts[0] + "/" + server.Database, "TROVE_STORE_PASSWORD_FILE=" + file,
			})
		})
	}
}

func twoOfEach(t *testing.T, env []string) {
	before := hostcheck.Take(t.Context(), t)
	state := filepath.Join(repository, "var", "e2e-two")
	destroyed := false
	t.Cleanup(func() {
		if destroyed {
			return
		}
		d := &deployment{t: t, state: state, env: append(os.Environ(), env...)}
		if out, err := d.try("dev", "destroy", "--state", state, "--force"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	p := newParts(t, state, env...)
	second := freePort()
	p.run("conductor@two")
	p.run("api@two", "--listen", second)
	p.run("taskmanager@two")
	if status := p.trove("dev", "status", "--state", state); !strings.Contains(status, "trove-taskmanager@two: process") {
		t.Errorf("dev status: %s", status)
	}
	other := *p.deployment
	other.listen = second
	secondClient, err := other.at("http://" + second)
	if err != nil {
		t.Fatal(err)
	}
	first := p.createKept("two-first")
	stop := p.readThrough(p.client, secondClient)
	for _, name := range []string{"api", "conductor", "taskmanager", "taskmanager@two"} {
		p.takeOver(name, secondClient)
	}
	if n := stop(); n == 0 {
		t.Error("the retrying client read nothing")
	}
	db := open(t, p.instance(first.ID), "app", password, "app")
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("login after all kills: %v", err)
	}
	p.destroy(t, before)
	destroyed = true
}

// at returns a client of the same project that speaks to the API at another address.
func (d *deployment) at(url string) (*client.Client, error) {
	c := *d.common()
	c.Env = append([]string{}, c.Env...)
	for n, v := range c.Env {
		if strings.HasPrefix(v, "OS_AUTH_URL=") {
			c.Env[n] = "OS_AUTH_URL=" + url + "/identity/v3"
		}
	}
	return c.NewClient()
}

// takeOver has creates accepted, kills a process in their midst and expects the others to finish them; then it starts it again.
func (p *parts) takeOver(name string, second *client.Client) {
	p.t.Helper()
	plain := strings.ReplaceAll(name, "@", "-")
	ids := p.begin("two-"+plain+"-1", "two-"+plain+"-2")
	c := p.of[name]
	if err := c.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-c.done
	killed := clock.Stopwatch()
	for _, id := range ids {
		eventually(p.t, patience, "instance "+id+", accepted before trove-"+name+" was killed, to be ACTIVE by the others", func() bool {
			i, err := second.Instance(p.t.Context(), id)
			if err == nil && i.Status == "ERROR" {
				p.t.Fatalf("instance %s is in ERROR after trove-%s was killed:\n%s", id, name, p.logs())
			}
			return err == nil && i.Status == "ACTIVE"
		})
	}
	p.t.Logf("without trove-%s both creates were finished %s after the kill", name, killed().Round(10*time.Millisecond))
	for _, id := range ids {
		if err := second.DeleteInstance(p.t.Context(), id); err != nil {
			p.t.Errorf("delete %s: %v", id, err)
		}
	}
	for _, id := range ids {
		eventually(p.t, patience, "instance "+id+" to be gone", func() bool {
			_, err := second.Instance(p.t.Context(), id)
			return client.IsNotFound(err)
		})
	}
	args := c.args
	if strings.Contains(name, "@") {
		args = args[2:] // run adds the name
	}
	p.run(name, args...)
}

// readThrough lists instances all the time, through one API and, where that fails, the other: both failing is an error. What it returns ends it and says
// how often it read.
func (p *parts) readThrough(apis ...*client.Client) (stop func() int64) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var reads atomic.Int64
	var done sync.WaitGroup
	done.Go(func() {
		for clock.Sleep(ctx, 50*time.Millisecond) == nil {
			var err error
			for _, c := range apis {
				if _, _, err = c.Instances(ctx, client.ListOptions{}); err == nil {
					reads.Add(1)
					break
				}
			}
			if err != nil && ctx.Err() == nil {
				p.t.Errorf("a list failed through both: %v", err)
			}
		}
	})
	return func() int64 {
		cancel()
		done.Wait()
		return reads.Load()
	}
}
