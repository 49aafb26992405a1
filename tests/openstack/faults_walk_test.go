package openstack_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/boundaries"
	"github.com/trove-dbaas/trove/tests/openstack"
)

func readSteps(t *testing.T) map[string]boundaries.Steps {
	t.Helper()
	steps, _, err := boundaries.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// waiting are steps that are always released to wait: for the cloud, or for the guest, which is held back while it is to enrol.
var waiting = map[string]bool{
	"instance.create/machine": true, "instance.create/guest": true, "instance.create/prepare": true, "instance.restart/restart": true,
	"instance.rebuild/engine": true, "instance.rebuild/machine": true, "instance.rebuild/start": true,
	"instance.reboot/engine": true, "instance.reboot/machine": true, "instance.reboot/start": true,
	"instance.stop/engine": true, "instance.stop/machine": true, "instance.start/machine": true, "instance.start/engine": true,
	"instance.resize_flavor/machine": true, "instance.resize_volume/volume": true, "instance.resize_volume/grow": true,
}

// leg is one crash.
type leg struct{ kind, at, fail string }

func (l leg) lines() string { return "crash " + l.at + "\n" + l.fail }

// legs are the crashes of a kind: those of the operation that is finished, then those of the one that is undone.
func legs(steps boundaries.Steps) []leg {
	var all []leg
	for _, at := range steps.Forwards(waiting) {
		all = append(all, leg{kind: steps.Kind, at: at})
	}
	for _, at := range steps.Backwards() {
		all = append(all, leg{kind: steps.Kind, at: at, fail: "fail " + steps.Last() + "\n"})
	}
	return all
}

// walker kills the taskmanager again and again.
type walker struct {
	*world

	steps   map[string]boundaries.Steps
	only    func(leg) bool
	died    time.Time
	crashes int
	slowest time.Duration
	table   *evidence
	images  []string // by turns, for rebuilds
}

// die has the taskmanager die where the lines say during what is asked, and starts it again.
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
	if err := os.Remove(w.crash); err != nil {
		w.t.Fatal(err)
	}
	w.again(lines)
}

// again starts the taskmanager after it was killed.
func (w *walker) again(at string) {
	w.t.Helper()
	w.died = time.Now()
	if ended := w.service.runs["taskmanager"].cmd.ProcessState.String(); ended != "signal: killed" {
		w.t.Fatalf("at %q the taskmanager ended by itself: %s\n%s", at, ended, w.service.logs())
	}
	w.crashes++
	w.start(w.service, "taskmanager")
	w.t.Logf("%s it runs again after %.1f s", hour(), time.Since(w.died).Seconds())
}

// hour tells the time in the log of a walk.
func hour() string { return time.Now().Format("15:04:05") }

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
	deletes := w.chosen(legs(w.steps[trove.OpDelete]))
	for n, l := range w.chosen(legs(w.steps[trove.OpCreate])) {
		w.t.Logf("%s %s", hour(), l.at)
		var id string
		w.guests.silence(strings.HasSuffix(l.at, "/guest/waited"))
		w.die(l.lines(), func() error { id = w.create(w.spec(fmt.Sprintf("walk-%d", n))); return nil })
		w.guests.silence(false)
		op := w.ends(id, trove.OpCreate)
		took := w.recovered()
		w.table.crash(l.at, op.State, took, w.made(l, id, op, empty))
		if len(deletes) == 0 || l.fail != "" {
			w.remove(id)
			w.nothing(l.at+", then a delete", empty)
			continue
		}
		w.dieDeleting(id, deletes[0], empty)
		deletes = deletes[1:]
	}
	for n, l := range deletes {
		w.dieDeleting(w.createWhole(fmt.Sprintf("leave-%d", n)), l, empty)
	}
}

// made checks how a create ended: there is an instance with all that it needs, or nothing.
func (w *walker) made(l leg, id string, op wire.Operation, empty openstack.Inventory) bool {
	w.t.Helper()
	want, status := "done", "ACTIVE"
	if l.fail != "" {
		want, status = "undone", "ERROR"
	}
	i := w.instance(id)
	if op.State != want || i.Status != status {
		w.t.Errorf("%s: the create ended %s (%s), the instance is %s, its fault %+v", l.at, op.State, op.Error, i.Status, i.Fault)
		return false
	}
	if l.fail != "" {
		return w.same(l.at, empty) && w.books(l.at)
	}
	return w.whole(l.at, id) && w.books(l.at, i)
}

// createWhole makes an instance without a crash.
func (w *walker) createWhole(name string) string {
	w.t.Helper()
	id := w.create(w.spec(name))
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		w.t.Fatalf("create: %s %s", op.State, op.Error)
	}
	return id
}

func (w *walker) dieDeleting(id string, l leg, empty openstack.Inventory) {
	w.t.Helper()
	w.t.Logf("%s %s", hour(), l.at)
	w.die(l.lines(), func() error { return w.client.DeleteInstance(w.t.Context(), id) })
	w.gone(id)
	took := w.recovered()
	w.table.crash(l.at, "done", took, w.nothing(l.at, empty))
}

// nothing checks that nothing is left: in the cloud, and in the service's own store.
func (w *walker) nothing(at string, empty openstack.Inventory) bool {
	w.t.Helper()
	clean := w.same(at, empty)
	return w.books(at) && clean
}

// chosen are the legs that are walked.
func (w *walker) chosen(all []leg) []leg {
	return slices.DeleteFunc(all, func(l leg) bool { return w.only != nil && !w.only(l) })
}

// kinds are what a line of the inventory is about.
var kinds = regexp.MustCompile(`^(server group|server|port|security group rule|security group|volume attachment|volume|floating IP|allocation|libvirt domain|RBD image|directory of Nova) `)

// wholeParts are what an instance has in the cloud and behind it. Where servers are words nothing is behind them.
func wholeParts() map[string]int {
	parts := map[string]int{"server": 1, "volume": 1, "port": 2, "security group": 1, "volume attachment": 1, "allocation": 1, "RBD image": 1}
	if !wordsForServers() {
		parts["libvirt domain"], parts["directory of Nova"] = 1, 1
	}
	return parts
}

// whole checks that an instance has what it needs, once. Agents of the cloud may still be at it.
func (w *walker) whole(at, id string) bool {
	w.t.Helper()
	var wrong []string
	parts := wholeParts()
	if public(w.instance(id)) {
		parts["floating IP"] = 1
	}
	for end := time.Now().Add(settle); ; time.Sleep(2 * time.Second) {
		if wrong = w.unlike(id, parts); len(wrong) == 0 {
			return true
		}
		if time.Now().After(end) {
			break
		}
	}
	w.t.Errorf("%s: the instance is not whole: %s", at, strings.Join(wrong, ", "))
	return false
}

// unlike says in what an instance differs from one that has these parts.
func (w *walker) unlike(id string, parts map[string]int) (wrong []string) {
	w.t.Helper()
	its, all := []string{id}, w.everything()
	for _, line := range all {
		if strings.Contains(line, "trove-"+id) {
			its = append(its, slices.DeleteFunc(strings.Fields(line), func(word string) bool { return !trove.ValidID(word) })...)
		}
	}
	have := map[string]int{}
	for _, line := range all {
		if slices.ContainsFunc(its, func(id string) bool { return strings.Contains(line, id) }) {
			have[strings.TrimSpace(kinds.FindString(line))]++
		}
	}
	for what, n := range parts {
		if have[what] != n {
			wrong = append(wrong, fmt.Sprintf("%d of %q in the inventory, not %d", have[what], what, n))
		}
	}
	return wrong
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
	trove.OpResizeVolume: func(w *walker, i wire.Instance) error {
		return w.client.ResizeVolume(w.t.Context(), i.ID, i.Volume.Size+1)
	},
	trove.OpStop:    func(w *walker, i wire.Instance) error { return w.client.StopInstance(w.t.Context(), i.ID) },
	trove.OpStart:   func(w *walker, i wire.Instance) error { return w.client.StartInstance(w.t.Context(), i.ID) },
	trove.OpRestart: func(w *walker, i wire.Instance) error { return w.client.RestartInstance(w.t.Context(), i.ID) },
	trove.OpRebuild: (*walker).askRebuild,
	trove.OpReboot:  func(w *walker, i wire.Instance) error { return w.admin().RebootInstance(w.t.Context(), i.ID) },
	trove.OpUpdateAccess: func(w *walker, i wire.Instance) error {
		other := !public(i)
		return w.client.UpdateInstance(w.t.Context(), i.ID, wire.InstanceUpdate{Access: &wire.AccessRequest{IsPublic: &other}})
	},
}

func public(i wire.Instance) bool { return i.Access.IsPublic != nil && *i.Access.IsPublic }

// walkKept meets the boundaries of the other operations on one instance.
func (w *walker) walkKept(kinds ...string) {
	w.t.Helper()
	w.needSecondImage(kinds)
	empty := w.inventory()
	id := w.createWhole("kept")
	w.whole("before all", id)
	there := w.inventory()
	for _, l := range w.chosen(w.keptLegs(kinds)) {
		w.kept(id, l, there)
	}
	w.remove(id)
	w.nothing("after all", empty)
}

// keptLegs are the crashes of these kinds; stops and starts by turns.
func (w *walker) keptLegs(kinds []string) []leg {
	var all, starts []leg
	if slices.Contains(kinds, trove.OpStop) {
		starts = legs(w.steps[trove.OpStart])
	}
	for _, kind := range kinds {
		for _, l := range legs(w.steps[kind]) {
			all = append(all, l)
			if n := min(1, len(starts)); kind == trove.OpStop {
				all, starts = append(all, starts[:n]...), starts[n:]
			}
		}
	}
	return append(all, starts...)
}

// kept meets one crash and checks how the operation ended.
func (w *walker) kept(id string, l leg, there openstack.Inventory) {
	w.t.Helper()
	w.t.Logf("%s %s", hour(), l.at)
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
	good := op.State == want && now.Status == after
	if !good {
		w.t.Errorf("%s: the operation ended %s (%s), the instance is %s; its fault is %+v", l.at, op.State, op.Error, now.Status, now.Fault)
	}
	good = w.asSaid(l, i, now) && good
	good = w.books(l.at, now) && good
	if l.kind == trove.OpRebuild {
		good = w.rebuilt(l, now) && good
	}
	if now.Status == "ACTIVE" && !public(now) {
		good = w.same(l.at, there) && good
	} else {
		good = w.whole(l.at, id) && good
	}
	w.table.crash(l.at, op.State, took, good)
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
func (w *walker) asSaid(l leg, before, now wire.Instance) bool {
	w.t.Helper()
	good := true
	wrong := func(format string, args ...any) {
		w.t.Helper()
		w.t.Errorf(l.at+": "+format, args...)
		good = false
	}
	if changed := before.Flavor.ID != now.Flavor.ID; l.kind == trove.OpResizeFlavor && changed != (l.fail == "") {
		wrong("the flavor was %s and is %s", before.Flavor.ID, now.Flavor.ID)
	}
	servers, err := w.lab().Servers(w.t.Context(), "trove-"+now.ID)
	if err != nil || len(servers) != 1 {
		w.t.Fatalf("%s: servers %v %v", l.at, servers, err)
	}
	if ram := w.ram(now); servers[0].Flavor.RAM != ram || servers[0].Status == "VERIFY_RESIZE" {
		wrong("the service says that the server has %d MiB; Nova says %d, and %s", ram, servers[0].Flavor.RAM, servers[0].Status)
	}
	if changed := public(before) != public(now); l.kind == trove.OpUpdateAccess && changed != (l.fail == "") {
		wrong("it was public: %t, and is: %t", public(before), public(now))
	}
	volumes, err := w.lab().Volumes(w.t.Context(), "trove-"+now.ID)
	if err != nil || len(volumes) != 1 || volumes[0].Size != now.Volume.Size || volumes[0].Status != "in-use" {
		wrong("the service says that the volume has %d GiB; Cinder says %+v %v", now.Volume.Size, volumes, err)
	}
	return good
}

// ram is the memory of an instance's flavor.
func (w *walker) ram(i wire.Instance) int {
	return map[string]int{w.things.small: 64, w.things.large: 96}[i.Flavor.ID]
}
