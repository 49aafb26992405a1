package openstack_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// mishap is something that goes wrong in the cloud, and what the owner of the instance reads of it.
type mishap struct {
	name   string
	change func(*wire.InstanceCreate) // of what is asked for
	hook   func() (undo func())       // what is done to the cloud meanwhile
	within time.Duration              // from the request to the fault, with what was made taken away again
	says   []string                   // that the fault has
}

// TestFaultsNamed shows that what goes wrong in the cloud ends in a fault that names it, in time, and leaves nothing behind. What needs servers that are more than words is
// left out on Nova's fake hypervisor, and what needs a daemon of Neutron stopped on a lab that is shared.
func TestFaultsNamed(t *testing.T) {
	const boot = 2 * time.Minute
	w := newWorld(t, "boot_timeout: "+boot.String()+"\n  volume_timeout: 30s")
	heading := "## What goes wrong in the cloud"
	if !wordsForServers() {
		heading += ", with virtual machines"
	}
	table := newEvidence(t, heading+"\n\n| what | fault | seconds until it was there and all else gone | left over |\n| --- | --- | --- | --- |")
	for _, m := range w.mishaps(boot) {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			defer w.within(t)()
			fault, took := w.meets(m)
			table.line("| %s | %s | %.1f | nothing |", m.name, fault, took.Seconds())
		})
	}
	t.Run("a_larger_flavor_that_no_host_has_room_for", func(t *testing.T) {
		defer w.within(t)()
		fault, took := w.noRoomToGrow()
		table.line("| a larger flavor that no host has room for | %s | %.1f | the instance, as it was |", fault, took.Seconds())
	})
}

// slack is for what is done around a deadline: the machine is slow.
const slack = 90 * time.Second

func (w *world) mishaps(boot time.Duration) []mishap {
	w.t.Helper()
	w.things.brokenType = w.volumeType("broken", map[string]string{"volume_backend_name": "nowhere-" + unique})
	w.things.fullType = w.volumeType("full", map[string]string{"volume_backend_name": "rbd"})
	w.ask(http.MethodPut, "block-storage", "/os-quota-sets/"+w.lab().Project("service"), map[string]any{"quota_set": map[string]any{"volumes_" + w.things.fullType: 0}}, nil)
	mute := func() func() { w.guests.silence(true); return func() { w.guests.silence(false) } }
	silent := []string{"its guest has not reported", "not done within " + boot.String()}
	all := []mishap{
		{
			name:   "a flavor that no host has room for",
			change: func(i *wire.InstanceCreate) { i.FlavorRef = wire.Ref(w.things.huge) },
			within: slack, says: []string{"Nova found no host that has room for it"},
		},
		{
			name:   "a volume that Cinder cannot make",
			change: func(i *wire.InstanceCreate) { i.Volume.Type = &w.things.brokenType },
			within: slack, says: []string{"The volume failed: Cinder says error of the volume", "(request req-"},
		},
		{
			name:   "a quota of the service project that is used up",
			change: func(i *wire.InstanceCreate) { i.Volume.Type = &w.things.fullType },
			within: slack, says: []string{"Cinder: ", "quota", "(request req-"},
		},
		{name: "a guest that never calls", hook: mute, within: boot + slack, says: silent},
	}
	if w.stops {
		all = append(all, mishap{
			name: "a port that never binds", hook: w.withoutAgent, within: slack, // another server is tried in between
			says: []string{"Neutron does not hear of its Linux bridge agent on the host lab1, and binds no port to it"},
		})
	}
	if wordsForServers() {
		return all
	}
	return append(all, mishap{
		name: "an image that does not boot", hook: mute, within: boot + slack, says: silent,
		change: func(i *wire.InstanceCreate) { i.Datastore.Version = "dead" },
	})
}

// meets has an instance meet a mishap.
func (w *world) meets(m mishap) (fault string, took time.Duration) {
	w.t.Helper()
	empty := w.inventory()
	if m.hook != nil {
		defer m.hook()()
	}
	spec := w.spec("mishap")
	if m.change != nil {
		m.change(&spec)
	}
	began := time.Now()
	id := w.create(spec)
	op := w.ends(id, trove.OpCreate)
	took = time.Since(began)
	i := w.instance(id)
	if op.State != string(trove.OperationUndone) || i.Status != "ERROR" || i.Fault == nil {
		w.t.Fatalf("the create ended %s (%s), the instance is %s, its fault is %+v", op.State, op.Error, i.Status, i.Fault)
	}
	fault = i.Fault.Message
	for _, words := range m.says {
		if !strings.Contains(fault, words) {
			w.t.Errorf("the fault is %q, and does not say %q", fault, words)
		}
	}
	if took > m.within {
		w.t.Errorf("the fault was there after %s, want %s at most", took, m.within)
	}
	w.t.Logf("%.1f s: %s", took.Seconds(), fault)
	w.same("with the fault", empty)
	w.remove(id)
	w.same("after the delete", empty)
	return fault, took
}

// noRoomToGrow resizes an instance to a flavor that no host has room for: it stays what it was.
func (w *world) noRoomToGrow() (fault string, took time.Duration) {
	w.t.Helper()
	empty := w.inventory()
	id := w.create(w.spec("grow"))
	if op := w.ends(id, trove.OpCreate); op.State != "done" {
		w.t.Fatalf("create: %s %s", op.State, op.Error)
	}
	there, began := w.inventory(), time.Now()
	if err := w.client.ResizeFlavor(w.t.Context(), id, w.things.huge); err != nil {
		w.t.Fatal(err)
	}
	op := w.ends(id, trove.OpResizeFlavor)
	took = time.Since(began)
	i := w.instance(id)
	if op.State != "undone" || i.Status != "ACTIVE" || i.Flavor.ID != w.things.small || i.Fault == nil || !strings.Contains(i.Fault.Message, "no host has room") {
		w.t.Fatalf("the resize ended %s (%s), the instance is %s, its flavor %s, its fault %+v", op.State, op.Error, i.Status, i.Flavor.ID, i.Fault)
	}
	w.t.Logf("%.1f s: %s", took.Seconds(), i.Fault.Message)
	w.same("after the resize that came to nothing", there)
	w.remove(id)
	w.same("after the delete", empty)
	return i.Fault.Message, took
}

// withoutAgent has the agent die by which ports are bound to the host, and waits until Neutron knows.
func (w *world) withoutAgent() (undo func()) {
	const agent = "neutron-linuxbridge"
	known := func(alive bool) {
		eventually(w.t, 3*time.Minute, "Neutron to know of its agent", func() bool {
			var answer struct{ Agents []struct{ Alive bool } }
			w.ask(http.MethodGet, "network", "/v2.0/agents?agent_type=Linux%20bridge%20agent", nil, &answer)
			return len(answer.Agents) == 1 && answer.Agents[0].Alive == alive
		})
	}
	w.daemon("stop", agent)
	undo = func() {
		w.daemon("start", agent)
		known(true)
	}
	w.t.Cleanup(func() { w.daemon("start", agent) })
	known(false)
	return undo
}

// emptyImage is one that a machine does not boot from: it has nothing in it. It goes with the test.
func (w *world) emptyImage() string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "empty.img")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o644); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), filepath.Join(repository, "tests", "openstack", "lab", "lab"), "openstack", "image", "create", "--public",
		"--disk-format", "raw", "--container-format", "bare", "--file", file, "-f", "value", "-c", "id", "faults-empty-"+unique)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LAB_STATE=" + state}
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("make an image: %v", err)
	}
	id := strings.TrimSpace(string(out))
	w.t.Cleanup(func() { w.ask(http.MethodDelete, "image", "/v2/images/"+id, nil, nil) })
	return id
}
