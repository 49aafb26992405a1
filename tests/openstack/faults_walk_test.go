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
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// step is a line of taskmanager/testdata/steps.golden.
type step struct {
	name string
	undo bool
}

// readSteps returns the steps of each kind of operation.
func readSteps(t *testing.T) map[string][]step {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "taskmanager", "testdata", "steps.golden"))
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string][]step{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			t.Fatalf("steps.golden has the line %q", line)
		}
		steps[f[0]] = append(steps[f[0]], step{name: f[2], undo: len(f) > 3})
	}
	return steps
}

// waiting are steps that are released to wait: for the cloud, or for the guest, which is held back then.
var waiting = map[string]bool{"instance.create/machine": true, "instance.create/guest": true, "instance.resize_flavor/machine": true}

// forwards are the boundaries of an operation that is finished; backwards those of one whose last step fails.
func forwards(kind string, steps []step) []string {
	var all []string
	for _, s := range steps {
		at := kind + "/" + s.name
		all = append(all, at+"/before", at+"/after")
		if waiting[at] {
			all = append(all, at+"/waited")
		}
	}
	return append(all, kind+"/"+steps[len(steps)-1].name+"/closed")
}

func backwards(kind string, steps []step) []string {
	var all []string
	last := ""
	for _, s := range slices.Backward(steps) {
		if s.undo {
			last = kind + "/" + s.name
			all = append(all, last+"/undo-before", last+"/undo-after")
		}
	}
	if last != "" {
		all = append(all, last+"/undo-closed")
	}
	return all
}

// leg is one crash.
type leg struct{ kind, at, fail string }

func (l leg) lines() string { return "crash " + l.at + "\n" + l.fail }

// legs are the crashes of a kind: those of the operation that is finished, then those of the one that is undone.
func legs(kind string, steps []step) []leg {
	var all []leg
	for _, at := range forwards(kind, steps) {
		all = append(all, leg{kind: kind, at: at})
	}
	for _, at := range backwards(kind, steps) {
		all = append(all, leg{kind: kind, at: at, fail: "fail " + kind + "/" + steps[len(steps)-1].name + "\n"})
	}
	return all
}

// walker kills the taskmanager again and again.
type walker struct {
	*world

	steps   map[string][]step
	only    func(leg) bool
	died    time.Time
	crashes int
	slowest time.Duration
	table   *evidence
}

// die has the taskmanager die where the lines say during what is asked, and starts it again. It returns how long after the request it died.
func (w *walker) die(lines string, ask func() error) {
	w.t.Helper()
	if err := os.WriteFile(w.crash, []byte(lines), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := ask(); err != nil {
		w.t.Fatalf("%q: %v", lines, err)
	}
	p := w.service.runs["taskmanager"]
	select {
	case <-p.done:
	case <-time.After(longest):
		w.t.Fatalf("the taskmanager did not die at %q\n%s", lines, w.service.logs())
	}
	if ended := p.cmd.ProcessState.String(); ended != "signal: killed" {
		w.t.Fatalf("at %q the taskmanager ended by itself: %s\n%s", lines, ended, w.service.logs())
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

// walkCreates meets the boundaries of create, done and undone, and those of delete by turns.
func (w *walker) walkCreates() {
	w.t.Helper()
	empty := w.inventory()
	deletes := w.chosen(legs(trove.OpDelete, w.steps[trove.OpDelete]))
	for n, l := range w.chosen(legs(trove.OpCreate, w.steps[trove.OpCreate])) {
		w.t.Logf("%s %s", time.Now().Format("15:04:05"), l.at)
		var id string
		w.guests.silence(strings.HasSuffix(l.at, "/guest/waited"))
		w.die(l.lines(), func() error { id = w.create(w.spec(fmt.Sprintf("walk-%d", n))); return nil })
		w.guests.silence(false)
		op := w.ends(id, trove.OpCreate)
		took := w.recovered()
		want, status := "done", "ACTIVE"
		if l.fail != "" {
			want, status = "undone", "ERROR"
		}
		if i := w.instance(id); op.State != want || i.Status != status {
			w.t.Errorf("%s: the create ended %s (%s), the instance is %s", l.at, op.State, op.Error, i.Status)
		}
		if l.fail != "" {
			w.same(l.at, empty)
		} else {
			w.whole(l.at, id)
		}
		w.table.crash(l.at, op.State, took)
		if len(deletes) == 0 || l.fail != "" {
			w.remove(id)
			w.same(l.at+", then a delete", empty)
			continue
		}
		w.dieDeleting(id, deletes[0], empty)
		deletes = deletes[1:]
	}
	for n, l := range deletes {
		id := w.create(w.spec(fmt.Sprintf("leave-%d", n)))
		if op := w.ends(id, trove.OpCreate); op.State != "done" {
			w.t.Fatalf("create: %s %s", op.State, op.Error)
		}
		w.dieDeleting(id, l, empty)
	}
}

func (w *walker) dieDeleting(id string, l leg, empty openstack.Inventory) {
	w.t.Helper()
	w.t.Logf("%s %s", time.Now().Format("15:04:05"), l.at)
	w.die(l.lines(), func() error { return w.client.DeleteInstance(w.t.Context(), id) })
	w.gone(id)
	took := w.recovered()
	w.same(l.at, empty)
	w.table.crash(l.at, "done", took)
}

// chosen are the legs that are walked.
func (w *walker) chosen(all []leg) []leg {
	return slices.DeleteFunc(all, func(l leg) bool { return w.only != nil && !w.only(l) })
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

// asks are how the operations on a living instance are asked for, so that each is a change.
var asks = map[string]func(w *walker, i wire.Instance) error{
	trove.OpResizeFlavor: func(w *walker, i wire.Instance) error {
		other := w.things.large
		if i.Flavor.ID == other {
			other = w.things.small
		}
		return w.client.ResizeFlavor(w.t.Context(), i.ID, other)
	},
	trove.OpResizeVolume: func(w *walker, i wire.Instance) error { return w.client.ResizeVolume(w.t.Context(), i.ID, i.Volume.Size+1) },
	trove.OpStop:         func(w *walker, i wire.Instance) error { return w.client.StopInstance(w.t.Context(), i.ID) },
	trove.OpStart:        func(w *walker, i wire.Instance) error { return w.client.StartInstance(w.t.Context(), i.ID) },
	trove.OpRestart:      func(w *walker, i wire.Instance) error { return w.client.RestartInstance(w.t.Context(), i.ID) },
}

// walkKept meets the boundaries of the other operations on one instance.
func (w *walker) walkKept(kinds ...string) {
	w.t.Helper()
	empty := w.inventory()
	id := w.create(w.spec("kept"))
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		w.t.Fatalf("create: %s %s", op.State, op.Error)
	}
	there := w.inventory()
	for _, kind := range kinds {
		for _, l := range w.chosen(legs(kind, w.steps[kind])) {
			w.kept(id, l)
			w.whole(l.at, id)
			if w.instance(id).Status == "ACTIVE" {
				w.same(l.at, there)
			}
		}
	}
	w.remove(id)
	w.same("after all", empty)
}

// kept meets one crash and checks how the operation ended.
func (w *walker) kept(id string, l leg) {
	w.t.Helper()
	w.t.Logf("%s %s", time.Now().Format("15:04:05"), l.at)
	before, after, want := "ACTIVE", "ACTIVE", "done"
	switch l.kind {
	case trove.OpStop:
		after = "SHUTDOWN"
	case trove.OpStart:
		before = "SHUTDOWN"
	}
	if l.fail != "" {
		want, after = "undone", before
	}
	w.be(id, before)
	i := w.instance(id)
	w.die(l.lines(), func() error { return asks[l.kind](w, i) })
	op := w.ends(id, l.kind)
	took := w.recovered()
	now := w.instance(id)
	if op.State != want || now.Status != after {
		w.t.Fatalf("%s: the operation ended %s (%s), the instance is %s; its fault is %+v", l.at, op.State, op.Error, now.Status, now.Fault)
	}
	w.asSaid(l, i, now)
	w.table.crash(l.at, op.State, took)
}

// be brings an instance into the state in which a leg begins.
func (w *walker) be(id, status string) {
	w.t.Helper()
	i := w.instance(id)
	if i.Status == status {
		return
	}
	kind := map[string]string{"ACTIVE": trove.OpStart, "SHUTDOWN": trove.OpStop}[status]
	if err := asks[kind](w, i); err != nil {
		w.t.Fatal(err)
	}
	if op := w.ends(id, kind); op.State != "done" {
		w.t.Fatalf("%s: %s %s", kind, op.State, op.Error)
	}
}

// asSaid compares what the service says of flavor and volume with what Nova and Cinder say.
func (w *walker) asSaid(l leg, before, now wire.Instance) {
	w.t.Helper()
	if changed := before.Flavor.ID != now.Flavor.ID; l.kind == trove.OpResizeFlavor && changed != (l.fail == "") {
		w.t.Errorf("%s: the flavor was %s and is %s", l.at, before.Flavor.ID, now.Flavor.ID)
	}
	servers, err := w.lab().Servers(w.t.Context(), "trove-"+now.ID)
	if err != nil || len(servers) != 1 {
		w.t.Fatalf("%s: servers %v %v", l.at, servers, err)
	}
	ram := map[string]int{w.things.small: 64, w.things.large: 96}[now.Flavor.ID]
	if servers[0].Flavor.RAM != ram || servers[0].Status == "VERIFY_RESIZE" {
		w.t.Errorf("%s: the service says that the server has %d MiB; Nova says %d, and %s", l.at, ram, servers[0].Flavor.RAM, servers[0].Status)
	}
	volumes, err := w.lab().Volumes(w.t.Context(), "trove-"+now.ID)
	if err != nil || len(volumes) != 1 || volumes[0].Size != now.Volume.Size || volumes[0].Status != "in-use" {
		w.t.Errorf("%s: the service says that the volume has %d GiB; Cinder says %+v %v", l.at, now.Volume.Size, volumes, err)
	}
}
