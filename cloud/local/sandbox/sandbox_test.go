package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/internal/clock"
)

// base is far from the ranges that the provider gives out.
const base = 0x6f000000

type fixture struct {
	runtime *sandbox.Runtime
	spec    sandbox.Spec
	data    string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces, mounts, control groups")
	}
	// Everybody may pass through /run, which cannot be said of t.TempDir: a sandbox's root is nobody on the host.
	run, err := os.MkdirTemp("/run", "trove-test-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run, 0o711); err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.Open("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	rt := &sandbox.Runtime{
		Dir: filepath.Join(run, "runc"), Parent: "/" + filepath.Base(run), Groups: tree,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	image := t.TempDir()
	for _, dir := range []string{"rootfs/proc", "rootfs/dev", "rootfs/run", "rootfs/tmp", "rootfs/data", "rootfs/agent", "rootfs/config", "agent", "data", "config"} {
		if err := os.MkdirAll(filepath.Join(image, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(image, "agent", "trove-guestagent"), "./testdata/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test agent: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(image, "config", "boot.json"), []byte(`{"token":"once"}`), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(image, "config", "boot.json"), base, base); err != nil {
		t.Fatal(err)
	}
	ns, err := mounts.NewUserNS(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := rt.Remove(ctx, "one"); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		if err := mounts.UnmountBelow(run); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
	})
	for _, m := range []struct {
		source, target string
		attrs          uint64
	}{
		{"rootfs", "root", mounts.ReadOnly | mounts.NoSuid | mounts.NoDev},
		{"agent", "agent", mounts.ReadOnly | mounts.NoSuid | mounts.NoDev},
		{"data", "data", mounts.NoSuid | mounts.NoDev | mounts.NoExec},
		{"config", "config", mounts.ReadOnly | mounts.NoSuid | mounts.NoDev | mounts.NoExec},
	} {
		target := filepath.Join(run, m.target)
		if err := os.Mkdir(target, 0o711); err != nil {
			t.Fatal(err)
		}
		use := ns
		if m.target == "config" {
			use = nil
		}
		if err := mounts.Bind(filepath.Join(image, m.source), target, m.attrs, use); err != nil {
			t.Fatal(err)
		}
	}
	bundle := filepath.Join(run, "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	return &fixture{runtime: rt, data: filepath.Join(image, "data"), spec: sandbox.Spec{
		ID: "one", Hostname: "orders", Bundle: bundle, Root: filepath.Join(run, "root"),
		Binds: []sandbox.Bind{
			{Source: filepath.Join(run, "agent"), Target: "/agent"},
			{Source: filepath.Join(run, "data"), Target: "/data"},
			{Source: filepath.Join(run, "config"), Target: "/config"},
		},
		Args: []string{"/agent/trove-guestagent", "init"}, BaseID: base, Console: filepath.Join(run, "console.log"),
		Limits: cgroup.Limits{Memory: 256 << 20, CPU: cgroup.Period, PIDs: 64},
	}}
}

type facts struct {
	PID, UID, Boots int
	Hostname, Boot  string
	UIDMap, Cgroup  string
	Status, Tries   map[string]string
	Owners          map[string]int
	Mounts          []string
}

// awaitFacts waits for the agent's report.
func awaitFacts(t *testing.T, f *fixture) facts {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		out, _ := os.ReadFile(f.spec.Console)
		if strings.Contains(string(out), "agent is up") {
			data, err := os.ReadFile(filepath.Join(f.data, "facts.json"))
			if err != nil {
				t.Fatal(err)
			}
			var got facts
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			return got
		}
		if err := clock.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := os.ReadFile(f.spec.Console)
	t.Fatalf("the agent did not come up within a minute; it said: %s", out)
	return facts{}
}

func TestSandboxIsolates(t *testing.T) {
	f := newFixture(t)
	started := time.Now()
	if err := f.runtime.Start(t.Context(), f.spec); err != nil {
		t.Fatal(err)
	}
	got := awaitFacts(t, f)
	t.Logf("agent was up after %s", time.Since(started))

	if got.PID != 1 || got.UID != 0 || got.Hostname != "orders" || got.Boot != `{"token":"once"}` {
		t.Errorf("agent is pid %d, uid %d on %q with boot data %q", got.PID, got.UID, got.Hostname, got.Boot)
	}
	if want := fmt.Sprintf("0 %d 65536", base); got.UIDMap != want {
		t.Errorf("uid_map is %q, want %q", got.UIDMap, want)
	}
	wantStatus := map[string]string{
		"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "00000000000000eb", "CapBnd": "00000000000000eb", "CapPrm": "00000000000000eb",
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000",
	}
	for k, want := range wantStatus {
		if got.Status[k] != want {
			t.Errorf("%s is %q, want %q", k, got.Status[k], want)
		}
	}
	if diff := cmp.Diff(map[string]int{"/": 0, "/data": 0, "/agent": 0, "/config/boot.json": 0, "/data/engine": 999}, got.Owners); diff != "" {
		t.Errorf("owners as the guest sees them (-want +got):\n%s", diff)
	}
	for try, result := range got.Tries {
		allowed := try == "chown" || try == "become engine"
		if allowed != (result == "") {
			t.Errorf("%s: %q, want it to be allowed: %v", try, result, allowed)
		}
	}
	if len(got.Tries) < 10 {
		t.Errorf("the agent tried only %d things", len(got.Tries))
	}
	if info, err := os.Stat(filepath.Join(f.data, "facts.json")); err != nil || owner(info) != 0 {
		t.Errorf("on the disk the file belongs to %d (%v), want 0: ids are mapped in the mount, not stored", owner(info), err)
	}
	limits, err := f.runtime.Groups.Get(f.runtime.Group("one"), "")
	if diff := cmp.Diff(f.spec.Limits, limits); err != nil || diff != "" {
		t.Errorf("limits (-want +got): %v\n%s", err, diff)
	}
}

func TestSandboxStopsAndStartsAgain(t *testing.T) {
	f := newFixture(t)
	if _, err := f.runtime.Find("one"); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Fatalf("before the start: %v", err)
	}
	if err := f.runtime.Start(t.Context(), f.spec); err != nil {
		t.Fatal(err)
	}
	awaitFacts(t, f)
	first, err := f.runtime.Find("one")
	if err != nil {
		t.Fatal(err)
	}
	// Another process with the same directory finds the same.
	other := *f.runtime
	if again, err := other.Find("one"); err != nil || again != first {
		t.Fatalf("found %v, %v; want %v", again, err, first)
	}
	if err := f.runtime.Stop(t.Context(), "one", time.Minute); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(f.data, "ended")); err != nil || string(data) != "asked" {
		t.Errorf("the agent was not asked to end: %q, %v", data, err)
	}
	if _, err := f.runtime.Find("one"); !errors.Is(err, sandbox.ErrNotRunning) {
		t.Fatalf("after the stop: %v", err)
	}
	if err := os.Truncate(f.spec.Console, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.runtime.Start(t.Context(), f.spec); err != nil {
		t.Fatal(err)
	}
	if got := awaitFacts(t, f); got.Boots != 2 {
		t.Errorf("boots = %d, want 2", got.Boots)
	}
	second, err := f.runtime.Find("one")
	if err != nil || second.BootID == first.BootID {
		t.Errorf("second boot %v, first %v: %v", second, first, err)
	}
	if err := f.runtime.Groups.Set(f.runtime.Group("one"), cgroup.Limits{Memory: 512 << 20, CPU: 2 * cgroup.Period, PIDs: 100}); err != nil {
		t.Fatal(err)
	}
	if got, err := f.runtime.Groups.Get(f.runtime.Group("one"), ""); err != nil || got.Memory != 512<<20 || got.CPU != 2*cgroup.Period || got.PIDs != 100 {
		t.Errorf("limits after the change: %+v, %v", got, err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	f := newFixture(t)
	f.spec.Args = []string{"/agent/missing"}
	err := f.runtime.Start(t.Context(), f.spec)
	if err == nil || !strings.Contains(err.Error(), "/agent/missing") {
		t.Fatalf("error is %v, want one that names the program", err)
	}
	if left, err := f.runtime.Sandboxes(); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
