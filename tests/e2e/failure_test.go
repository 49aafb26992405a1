package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// insideProcess returns the host's id of a process in the instance's sandbox, 0 if there is none: its first one for "init", else the one with the name
// (the first 15 characters count) that is not the first.
func (d *deployment) insideProcess(instance, name string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, f := range files {
		group, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(group), "/trove-"+d.hash()+"/"+instance) {
			continue
		}
		dir := filepath.Dir(f)
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		status, _ := os.ReadFile(filepath.Join(dir, "status"))
		_, rest, _ := strings.Cut(string(status), "NSpid:")
		line, _, _ := strings.Cut(rest, "\n")
		ids := strings.Fields(line)
		first := len(ids) > 1 && ids[len(ids)-1] == "1"
		if name == "init" && first || !first && strings.TrimSpace(string(comm)) == name[:min(15, len(name))] {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}

// killInside kills a process in the instance's sandbox, as the kernel does when memory is short.
func (d *deployment) killInside(instance, name string) int {
	d.t.Helper()
	pid := d.insideProcess(instance, name)
	if pid == 0 {
		d.t.Fatalf("there is no %s in instance %s", name, instance)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// writer inserts rows for as long as it is let, and remembers those that the database has confirmed.
type writer struct {
	db   *sql.DB
	stop func()

	mu        sync.Mutex
	confirmed []int
}

func startWriter(t *testing.T, db *sql.DB) *writer {
	t.Helper()
	mustExec(t, db, "CREATE TABLE written (n INT PRIMARY KEY)")
	w := &writer{db: db}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ctx.Err() == nil; n++ {
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := db.ExecContext(one, "INSERT INTO written VALUES (?)", n)
			cancel()
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			w.mu.Lock()
			w.confirmed = append(w.confirmed, n)
			w.mu.Unlock()
		}
	}()
	var once sync.Once
	w.stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(w.stop)
	return w
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.confirmed)
}

// goesOn waits until the database confirms rows again.
func (w *writer) goesOn(t *testing.T, what string) {
	t.Helper()
	began, from := time.Now(), w.count()
	eventually(t, patience, what+": rows to be confirmed again", func() bool { return w.count() > from+5 })
	t.Logf("%s: the database was back after %s", what, time.Since(began).Round(time.Millisecond))
}

// check compares what is there with what was confirmed.
func (w *writer) check(t *testing.T) {
	t.Helper()
	w.stop()
	rows, err := w.db.QueryContext(t.Context(), "SELECT n FROM written")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	there := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		there[n] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, n := range w.confirmed {
		if !there[n] {
			lost++
		}
	}
	if lost > 0 || len(w.confirmed) == 0 {
		t.Errorf("%d of %d confirmed rows are lost", lost, len(w.confirmed))
	}
	t.Logf("%d rows were confirmed, none is lost", len(w.confirmed))
}

// event waits for a line of the timeline that happened so often at least, and returns it.
func (d *deployment) event(id, kind string, times int) wire.InstanceEvent {
	d.t.Helper()
	var found wire.InstanceEvent
	eventually(d.t, patience, fmt.Sprintf("%d times %s in the timeline", times, kind), func() bool {
		sum, marker := 0, ""
		for {
			page, more, err := d.client.Events(d.t.Context(), id, client.ListOptions{Marker: marker})
			if err != nil {
				return false
			}
			for _, e := range page {
				if marker = e.ID; e.Kind == kind {
					sum, found = sum+e.Count, e
				}
			}
			if !more || len(page) == 0 {
				return sum >= times
			}
		}
	})
	return found
}

// TestFailuresAreMendedAndTold kills the database, the agent and the whole sandbox, with the control plane and without it: all come back by themselves, no
// row that was confirmed is lost, and the timeline says what happened.
func TestFailuresAreMendedAndTold(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("failure-1")
	w := startWriter(t, open(t, i, "app", password, "app"))
	eventually(t, patience, "the first rows", func() bool { return w.count() > 20 })

	d.killInside(i.ID, "mariadbd")
	w.goesOn(t, "the database was killed")
	if e := d.event(i.ID, trove.EventEngineFailed, 1); !strings.Contains(e.Sentence, "killed") || e.Details == "" {
		t.Errorf("the timeline says %+v", e)
	}
	d.event(i.ID, "database.healthy", 1)

	d.killGroup()
	stop := query20Hz(t, open(t, i, "app", password, "app"))
	agent := d.killInside(i.ID, "trove-guestagent")
	eventually(t, patience, "another agent", func() bool {
		next := d.insideProcess(i.ID, "trove-guestagent")
		return next != 0 && next != agent
	})
	time.Sleep(time.Second)
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed when the agent was killed, without the control plane", failed)
	}
	d.killInside(i.ID, "mariadbd")
	w.goesOn(t, "the database was killed, without the control plane")
	d.startAgain()
	d.event(i.ID, trove.EventAgentRestarted, 1)
	d.event(i.ID, trove.EventEngineFailed, 2)

	d.killInside(i.ID, "init")
	w.goesOn(t, "the whole sandbox was killed")
	d.event(i.ID, trove.EventMachineRevived, 1)
	d.event(i.ID, trove.EventMachineStarted, 1)
	w.check(t)
	eventually(t, patience, "the instance to be healthy", func() bool {
		i := d.instance(i.ID)
		return i.Status == "ACTIVE" && i.OperatingStatus == "HEALTHY"
	})
	if out := d.trove("instance", "events", i.Name); !strings.Contains(out, trove.EventEngineFailed) || !strings.Contains(out, "instance.create") {
		t.Errorf("`trove instance events` says:\n%s", out)
	}
}
