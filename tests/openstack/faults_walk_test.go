package openstack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// readSteps returns the names of the steps of each kind of operation.
func readSteps(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "taskmanager", "testdata", "steps.golden"))
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			t.Fatalf("steps.golden has the line %q", line)
		}
		steps[f[0]] = append(steps[f[0]], f[2])
	}
	return steps
}

// boundaries are where the process is killed: "waited" is when the step was released to wait for the cloud.
func boundaries(kind string, steps []string) []string {
	var all []string
	for _, s := range steps {
		at := kind + "/" + s
		all = append(all, at+"/before", at+"/after")
		if at == "instance.create/machine" {
			all = append(all, at+"/waited")
		}
	}
	return append(all, kind+"/"+steps[len(steps)-1]+"/closed")
}

// walker kills the taskmanager again and again.
type walker struct {
	*world

	steps   map[string][]string
	only    func(at string) bool
	died    time.Time
	crashes int
	slowest time.Duration
	table   *evidence
}

// die has the taskmanager die at a boundary during what is asked, and starts it again.
func (w *walker) die(at string, ask func() error) {
	w.t.Helper()
	if err := os.WriteFile(w.crash, []byte("crash "+at+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := ask(); err != nil {
		w.t.Fatalf("%q: %v", at, err)
	}
	p := w.service.runs["taskmanager"]
	select {
	case <-p.done:
	case <-time.After(longest):
		w.t.Fatalf("the taskmanager did not die at %q\n%s", at, w.service.logs())
	}
	if ended := p.cmd.ProcessState.String(); ended != "signal: killed" {
		w.t.Fatalf("at %q the taskmanager ended by itself: %s\n%s", at, ended, w.service.logs())
	}
	if err := os.Remove(w.crash); err != nil {
		w.t.Fatal(err)
	}
	w.crashes++
	if !w.alone {
		w.inventory() // learns the ids of what is there now
	}
	w.died = time.Now()
	w.start(w.service, "taskmanager")
}

// recovered is how long after the crash the operation had ended.
func (w *walker) recovered() time.Duration {
	took := time.Since(w.died)
	w.slowest = max(w.slowest, took)
	return took
}

// walk meets the boundaries of create and, with the instances that came of it, those of delete.
func (w *walker) walk() {
	w.t.Helper()
	empty := w.inventory()
	creates, deletes := w.chosen(trove.OpCreate), w.chosen(trove.OpDelete)
	for n := range max(len(creates), len(deletes)) {
		var id string
		ask := func() error { id = w.create(w.spec(fmt.Sprintf("walk-%d", n))); return nil }
		if n < len(creates) {
			w.die(creates[n], ask)
		} else if err := ask(); err != nil {
			w.t.Fatal(err)
		}
		w.made(id, creates[min(n, len(creates)-1)], n < len(creates))
		if n < len(deletes) {
			w.die(deletes[n], func() error { return w.client.DeleteInstance(w.t.Context(), id) })
			w.gone(id)
			took := w.recovered()
			w.same(deletes[n], empty)
			w.table.crash(deletes[n], "done", took)
			continue
		}
		w.remove(id)
		w.same("delete", empty)
	}
}

// made checks that a create has ended well.
func (w *walker) made(id, at string, died bool) {
	w.t.Helper()
	op := w.ends(id, trove.OpCreate)
	took := time.Since(w.died)
	if i := w.instance(id); op.State != string(trove.OperationDone) || i.Status != "ACTIVE" {
		w.t.Fatalf("%s: the create ended %s (%s), the instance is %s", at, op.State, op.Error, i.Status)
	}
	w.whole(at, id)
	if died {
		w.slowest = max(w.slowest, took)
		w.table.crash(at, op.State, took)
	}
}

// chosen are the boundaries of a kind that are walked.
func (w *walker) chosen(kind string) []string {
	return slices.DeleteFunc(boundaries(kind, w.steps[kind]), func(at string) bool { return w.only != nil && !w.only(at) })
}

// whole checks that an instance has what it needs, once.
func (w *walker) whole(at, id string) {
	w.t.Helper()
	have := map[string]int{}
	for _, line := range take(w.t, w.lab()) {
		what, _, _ := strings.Cut(line, " ")
		if strings.Contains(line, "trove-"+id) && what != "security" || strings.HasPrefix(line, "security group ") && strings.HasSuffix(line, "trove-"+id) {
			have[what]++
		}
	}
	if have["server"] != 1 || have["volume"] != 1 || have["port"] != 2 || have["security"] != 1 {
		w.t.Errorf("%s: the instance has %v, want 1 server, 1 volume, 2 ports, 1 security group", at, have)
	}
}
