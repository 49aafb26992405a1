package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/internal/clock"
)

// facts is what the test agent reports of itself.
type facts struct {
	Hostname, Boot, UIDMap string
	Status, Tries          map[string]string
	Boots                  int
}

// volumeFile returns a path in the instance's volume, seen from the host.
func (d *deployment) volumeFile(id, name string) string {
	return filepath.Join(d.RunDir(), "i", id, "data", name)
}

func (d *deployment) facts(t *testing.T, id string) facts {
	t.Helper()
	var f facts
	if err := json.Unmarshal([]byte(read(t, d.volumeFile(id, "facts.json"))), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestInstanceIsClosed(t *testing.T) {
	d := deploy(t)
	id := trove.NewID()
	d.create(t, id, 1)
	got := d.facts(t, id)
	if got.Hostname != "orders-db" || got.Boot != `{"token":"once"}` {
		t.Errorf("host name %q, boot data %q", got.Hostname, got.Boot)
	}
	want := map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "00000000000000eb", "CapBnd": "00000000000000eb"}
	for k, v := range want {
		if got.Status[k] != v {
			t.Errorf("%s is %q, want %q", k, got.Status[k], v)
		}
	}
	for _, try := range []string{"mount", "remount", "unshare", "write root", "write agent", "write config", "write sysctl", "mknod", "host file", "host processes", "kernel log", "exec from run"} {
		if result, tried := got.Tries[try]; !tried || result == "" {
			t.Errorf("%s: tried %v, and it worked", try, tried)
		}
	}
	var inside, base, size int
	if n, err := fmt.Sscan(got.UIDMap, &inside, &base, &size); n != 3 || err != nil || inside != 0 || base < 1<<16 || size != 65536 {
		t.Errorf("uid_map is %q, want 65536 ids from 0, somewhere above the host's own", got.UIDMap)
	}

	// Two instances have nothing in common, not even ids.
	other := trove.NewID()
	d.create(t, other, 1)
	if second := d.facts(t, other); second.UIDMap == got.UIDMap {
		t.Errorf("two instances have the ids %q", second.UIDMap)
	}
	// The boot data, with its token, can be read by nobody else on the host, and the volume only through directories that cannot be listed.
	info, err := os.Stat(filepath.Join(d.RunDir(), "i", id, "config", "boot.json"))
	if err != nil || info.Mode().Perm() != 0o400 || int(info.Sys().(*syscall.Stat_t).Uid) != base {
		t.Errorf("boot data: %v, %v", info, err)
	}
}

func TestInstanceSurvivesItsControllers(t *testing.T) {
	d := deploy(t)
	id := trove.NewID()
	before := d.create(t, id, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.Provider = d.open(t)
	after, err := d.FindMachine(t.Context(), id)
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("found after a restart: %v\n%s", err, diff)
	}
}

// TestHostRestart takes away what a restart of the machine takes: processes, mounts, loops, namespaces, /run.
func TestHostRestart(t *testing.T) {
	d := deploy(t)
	ctx := t.Context()
	id := trove.NewID()
	before := d.create(t, id, 1)
	d.powerCut(t, id)

	m, err := d.FindMachine(ctx, id)
	if err != nil || m.State != cloud.MachineStopped || m.Reason == "" {
		t.Fatalf("after the restart: %+v, %v; want it stopped, with a reason", m, err)
	}
	if v, err := d.FindVolume(ctx, id); err != nil || !v.Ready || v.SizeGiB != 1 {
		t.Fatalf("after the restart: %+v, %v", v, err)
	}
	if _, err := d.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: id}); err != nil {
		t.Fatal(err)
	}
	m, err = d.EnsureMachine(ctx, cloud.MachineSpec{Instance: id, ImageID: imageID, Flavor: local.DefaultFlavors()[0], BootData: []byte("other")})
	if err != nil || m.State != cloud.MachineRunning || m.BootID == before.BootID {
		t.Fatalf("brought back: %+v, %v", m, err)
	}
	d.awaitAgent(t, id)
	if got := d.facts(t, id); got.Boots != 2 || got.Boot != `{"token":"once"}` {
		t.Errorf("boots %d, boot data %q; want the second boot with the first boot data", got.Boots, got.Boot)
	}
}

func (d *deployment) powerCut(t *testing.T, id string) {
	t.Helper()
	ctx := t.Context()
	group := filepath.Join("/sys/fs/cgroup/pids", filepath.Base(d.RunDir()), id, "cgroup.procs")
	if _, err := os.Stat(group); err != nil {
		group = filepath.Join("/sys/fs/cgroup", filepath.Base(d.RunDir()), id, "cgroup.procs")
	}
	for pid := range strings.FieldsSeq(read(t, group)) {
		var n int
		if _, err := fmt.Sscan(pid, &n); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually(t, "the sandbox's end", func() bool {
		m, err := d.FindMachine(ctx, id)
		return err == nil && m.State == cloud.MachineStopped
	})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(d.RunDir(), "i", id)
	d.eventually(t, "the mounts to be free", func() bool { return mounts.UnmountBelow(run) == nil })
	for _, dir := range []string{"i", "runc", "locks", "loops"} {
		if err := os.RemoveAll(filepath.Join(d.RunDir(), dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range glob(t, "/run/trove-ids/*") {
		if owner, err := os.Readlink(link); err == nil && owner == run {
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.net.RemoveInstance(ctx, id); err != nil {
		t.Fatal(err)
	}
	d.Provider = d.open(t)
}

func (d *deployment) eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		if clock.Sleep(ctx, 2*time.Millisecond) != nil {
			t.Fatalf("%s did not come within a minute", what)
		}
	}
}

// TestALostVolumeIsNeverMadeAnew: a machine whose image file is gone gets no empty one in its place.
func TestALostVolumeIsNeverMadeAnew(t *testing.T) {
	d := deploy(t)
	ctx, id := t.Context(), trove.NewID()
	d.create(t, id, 1)
	image := filepath.Join(d.config.State, "instances", id, "volume.img")
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	if _, err := d.FindVolume(ctx, id); !trove.IsNotFound(err) {
		t.Errorf("FindVolume: %v, want NotFound", err)
	}
	for _, size := range []int{1, 2} {
		if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: size, ImageID: imageID}); !trove.IsPermanent(err) {
			t.Errorf("EnsureVolume of %d GiB: %v, want a permanent error", size, err)
		}
	}
	if _, err := os.Stat(image); !os.IsNotExist(err) {
		t.Errorf("a new volume was made: %v", err)
	}
	traces, err := local.Traces(d.config.State, "")
	if err != nil || len(traces) != 1 || traces[0].Instance != id || !traces[0].Running || traces[0].Volume {
		t.Errorf("traces %+v: %v", traces, err)
	}
}

func TestMachineThatEndedByItselfIsStartedAgain(t *testing.T) {
	d := deploy(t)
	ctx, id := t.Context(), trove.NewID()
	before := d.create(t, id, 1)
	if out, err := exec.CommandContext(ctx, "runc", "--root", filepath.Join(d.RunDir(), "runc"), "kill", id, "KILL").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.eventually(t, "the machine's end", func() bool {
		m, err := d.FindMachine(ctx, id)
		return err == nil && m.State == cloud.MachineStopped && m.Reason != ""
	})
	m, err := d.EnsureMachine(ctx, cloud.MachineSpec{Instance: id, ImageID: imageID, Flavor: local.DefaultFlavors()[0]})
	if err != nil || m.State != cloud.MachineRunning || m.BootID == before.BootID {
		t.Fatalf("started again: %+v, %v", m, err)
	}
	d.awaitAgent(t, id)
	// What the first boot said is kept.
	if old := read(t, filepath.Join(d.config.State, "instances", id, "console.log")); !strings.Contains(old, "agent is up") {
		t.Errorf("the console before the start was %q", old)
	}
}

func TestVolumeGrowsUnderARunningEngine(t *testing.T) {
	d := deploy(t)
	ctx, id := t.Context(), trove.NewID()
	d.create(t, id, 1)
	size := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs(d.volumeFile(id, ""), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * uint64(st.Bsize) >> 20
	}
	if small := size(); small < 900 || small > 1024 {
		t.Errorf("a volume of 1 GiB has %d MiB", small)
	}
	v, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 3, ImageID: imageID})
	if err != nil || v.SizeGiB != 3 || !v.Ready {
		t.Fatalf("grown volume: %+v, %v", v, err)
	}
	if large := size(); large < 2900 || large > 3072 {
		t.Errorf("a volume of 3 GiB has %d MiB", large)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(d.config.State, "instances", id, "volume.img"), &st); err != nil || st.Blocks*512 < 3<<30 {
		t.Errorf("%d MiB are reserved, want 3072: %v", st.Blocks*512>>20, err)
	}
	if err := d.RemoveVolume(ctx, id); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("removing the volume under the machine: %v, want a conflict", err)
	}
}

func TestResizeChangesLimitsAtOnce(t *testing.T) {
	d := deploy(t)
	ctx, id := t.Context(), trove.NewID()
	before := d.create(t, id, 1)
	m, err := d.ResizeMachine(ctx, id, local.DefaultFlavors()[2])
	if err != nil || m.FlavorID != "3" || m.BootID != before.BootID {
		t.Fatalf("resized: %+v, %v", m, err)
	}
	limit, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/memory", filepath.Base(d.RunDir()), id, "memory.limit_in_bytes"))
	if errors.Is(err, os.ErrNotExist) {
		limit, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", filepath.Base(d.RunDir()), id, "memory.max"))
	}
	if want := fmt.Sprint((4096 + local.AgentMiB) << 20); err != nil || strings.TrimSpace(string(limit)) != want {
		t.Errorf("memory limit %s, %v; want %s", limit, err, want)
	}
}

// TestHalfMadeIsFinishedOrRemoved leaves what a create that was killed between any two acts leaves, and lets Ensure and Remove go on from there.
func TestHalfMadeIsFinishedOrRemoved(t *testing.T) {
	d := deploy(t)
	ctx := t.Context()
	before := everything(t)
	dir := func(id, name string) string { return filepath.Join(d.config.State, "instances", id, name) }
	record := `{"size_gib":1,"type":"default","image_id":"` + imageID + `"}`
	stages := map[string]func(t *testing.T, id string){
		"a directory": func(t *testing.T, id string) { writeFile(t, dir(id, "x"), "") },
		"a record":    func(t *testing.T, id string) { writeFile(t, dir(id, "volume.json"), record) },
		"half a copy": func(t *testing.T, id string) {
			writeFile(t, dir(id, "volume.json"), record)
			writeFile(t, dir(id, "volume.img.part"), "half")
		},
		"a volume that is not mounted": func(t *testing.T, id string) {
			d.volume(t, id)
			if err := mounts.Unmount(d.volumeFile(id, "")); err != nil {
				t.Fatal(err)
			}
		},
		"a volume and no run directory": func(t *testing.T, id string) {
			d.volume(t, id)
			if err := mounts.UnmountBelow(filepath.Join(d.RunDir(), "i", id)); err != nil {
				t.Fatal(err)
			}
		},
		"a growth that was only booked": func(t *testing.T, id string) {
			d.volume(t, id)
			writeFile(t, dir(id, "volume.json"), strings.Replace(record, `"size_gib":1`, `"size_gib":2`, 1))
		},
		"a machine's record": func(t *testing.T, id string) {
			d.volume(t, id)
			writeFile(t, dir(id, "machine.json"), `{"image_id":"`+imageID+`","flavor":{"ID":"1","Name":"db.tiny","RAM":512,"VCPUs":1}}`)
		},
		"a sandbox whose state was not written": func(t *testing.T, id string) {
			d.create(t, id, 1)
			if err := os.RemoveAll(filepath.Join(d.RunDir(), "runc", id)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, make := range stages {
		for _, finish := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, finish %v", name, finish), func(t *testing.T) {
				id := trove.NewID()
				if _, err := d.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: id}); err != nil {
					t.Fatal(err)
				}
				make(t, id)
				if finish {
					size := 1
					if strings.Contains(name, "growth") {
						size = 2
					}
					d.create(t, id, size)
					if v, err := d.FindVolume(ctx, id); err != nil || !v.Ready || v.SizeGiB != size {
						t.Errorf("finished: %+v, %v", v, err)
					}
					if m, err := d.FindMachine(ctx, id); err != nil || m.State != cloud.MachineRunning {
						t.Errorf("finished: %+v, %v", m, err)
					}
				}
				for range 2 {
					d.remove(t, id)
				}
				if diff := cmp.Diff(before, everything(t), cmpopts.EquateEmpty(), ignoreDeployments); diff != "" {
					t.Errorf("left over (-before +after):\n%s", diff)
				}
				if _, err := os.Stat(filepath.Join(d.config.State, "instances", id)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the instance's directory is still there: %v", err)
				}
			})
		}
	}
}

// ignoreDeployments leaves out the control groups that all instances share.
var ignoreDeployments = cmpopts.IgnoreSliceElements(func(s string) bool { return !instanceID.MatchString(s) })

// remove removes in the order in which an operation does.
func (d *deployment) remove(t *testing.T, id string) {
	t.Helper()
	for _, remove := range []func(context.Context, string) error{d.RemoveMachine, d.RemoveVolume, d.RemoveNetwork} {
		if err := remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

func (d *deployment) volume(t *testing.T, id string) {
	t.Helper()
	if _, err := d.EnsureVolume(t.Context(), cloud.VolumeSpec{Instance: id, SizeGiB: 1, ImageID: imageID}); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDeploymentsAreApart(t *testing.T) {
	before := everything(t)
	a, b := deploy(t), deploy(t)
	ctx := t.Context()
	one, two := trove.NewID(), trove.NewID()
	a.create(t, one, 1)
	b.create(t, two, 1)
	if _, err := a.FindMachine(ctx, two); !trove.IsNotFound(err) {
		t.Errorf("one deployment finds the other's machine: %v", err)
	}
	if err := a.RemoveMachine(ctx, two); err != nil {
		t.Error(err)
	}
	if ids, err := a.Instances(ctx); err != nil || !cmp.Equal(ids, []string{one}) {
		t.Errorf("Instances: %v, %v; want %s", ids, err, one)
	}
	if a.facts(t, one).UIDMap == b.facts(t, two).UIDMap {
		t.Error("instances of two deployments have the same ids")
	}
	for range 2 {
		if err := a.Destroy(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := b.FindMachine(ctx, two); err != nil || m.State != cloud.MachineRunning {
		t.Fatalf("destroying one deployment did this to the other: %+v, %v", m, err)
	}
	for _, entry := range everything(t) {
		if strings.Contains(entry, filepath.Base(a.RunDir())) {
			t.Errorf("destroy left %s", entry)
		}
	}
	if err := b.Destroy(ctx); err != nil {
		t.Fatal(err)
	}
	if left := leftOver(t, before); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestOvercommit(t *testing.T) {
	d := deploy(t)
	d.config.PoolGiB, d.config.Overcommit, d.config.StopMark = 1, 3, local.Mark{Bytes: 1 << 30}
	d.Provider = d.open(t)
	ctx := t.Context()
	id := trove.NewID()
	if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 3, ImageID: imageID}); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(d.config.State, "instances", id, "volume.img"), &st); err != nil || st.Blocks*512 > 1<<30 {
		t.Errorf("the file takes %d MiB, want nothing reserved: %v", st.Blocks*512>>20, err)
	}
	_, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: trove.NewID(), SizeGiB: 1, ImageID: imageID})
	want := "A volume of 1 GiB cannot be had: the local cloud has 0 GiB left for it; of 3 GiB for volumes 3 GiB are promised. " +
		"Ask the operator for more space, or delete what is not needed."
	if trove.KindOf(err) != trove.KindOverLimit || trove.MessageOf(err) != want || !trove.IsPermanent(err) {
		t.Errorf("a full pool answers %v, want %q", err, want)
	}
	if all, err := d.Volumes(ctx); err != nil || len(all) != 1 {
		t.Errorf("Volumes after the refusal: %v, %v", all, err)
	}
}
