package cgroup_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/cloud/local/cgroup"
)

// tree makes a directory with files, as a kernel would show them.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func open(t *testing.T, root string) *cgroup.Tree {
	t.Helper()
	c, err := cgroup.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func contents(t *testing.T, root string, names ...string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(root, n))
		if err != nil {
			t.Fatal(err)
		}
		got[n] = string(data)
	}
	return got
}

var limits = cgroup.Limits{Memory: 1 << 30, CPU: 2 * cgroup.Period, PIDs: 64}

func TestUnified(t *testing.T) {
	root := tree(t, map[string]string{
		"cgroup.controllers": "cpuset cpu io memory hugetlb pids\n",
		"trove/a/memory.max": "max\n", "trove/a/memory.swap.max": "max\n", "trove/a/cpu.max": "max 100000\n", "trove/a/pids.max": "max\n",
		"trove/a/cgroup.procs": "12\n13\n",
		"trove/b/memory.max":   "max\n", "trove/b/cpu.max": "max 100000\n", "trove/b/pids.max": "max\n", // without swap accounting
	})
	c := open(t, root)
	if c.Version() != 2 {
		t.Errorf("version %d, want 2", c.Version())
	}
	for _, group := range []string{"/trove/a", "/trove/b"} {
		if err := c.Set(group, limits); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(group, ""); err != nil || got != limits {
			t.Errorf("%s: limits %+v, %v; want %+v", group, got, err, limits)
		}
	}
	want := map[string]string{"trove/a/memory.max": "1073741824", "trove/a/memory.swap.max": "0", "trove/a/cpu.max": "200000 100000", "trove/a/pids.max": "64"}
	if diff := cmp.Diff(want, contents(t, root, "trove/a/memory.max", "trove/a/memory.swap.max", "trove/a/cpu.max", "trove/a/pids.max")); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if pids, err := c.Processes("/trove/a"); err != nil || !slices.Equal(pids, []int{12, 13}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if groups, err := c.Groups("/trove"); err != nil || !slices.Equal(groups, []string{"a", "b"}) {
		t.Errorf("groups %v, %v", groups, err)
	}
}

func TestHierarchies(t *testing.T) {
	root := tree(t, map[string]string{
		"memory/trove/a/memory.limit_in_bytes": "536870912\n", "memory/trove/a/memory.memsw.limit_in_bytes": "536870912\n",
		"cpu,cpuacct/trove/a/cpu.cfs_period_us": "100000\n", "cpu,cpuacct/trove/a/cpu.cfs_quota_us": "-1\n",
		"pids/trove/a/pids.max": "max\n", "pids/trove/a/cgroup.procs": "12\n", "memory/trove/a/cgroup.procs": "12\n",
		"unified/trove/b/cgroup.procs": "",
	})
	if err := os.Symlink("cpu,cpuacct", filepath.Join(root, "cpu")); err != nil {
		t.Fatal(err)
	}
	c := open(t, root)
	if c.Version() != 1 {
		t.Errorf("version %d, want 1", c.Version())
	}
	if err := c.Set("/trove/a", limits); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"memory/trove/a/memory.limit_in_bytes": "1073741824", "memory/trove/a/memory.memsw.limit_in_bytes": "1073741824",
		"cpu/trove/a/cpu.cfs_quota_us": "200000", "pids/trove/a/pids.max": "64",
	}
	if diff := cmp.Diff(want, contents(t, root, "memory/trove/a/memory.limit_in_bytes", "memory/trove/a/memory.memsw.limit_in_bytes",
		"cpu/trove/a/cpu.cfs_quota_us", "pids/trove/a/pids.max")); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if pids, err := c.Processes("/trove/a"); err != nil || !slices.Equal(pids, []int{12}) {
		t.Errorf("processes %v, %v; want each once", pids, err)
	}
	if groups, err := c.Groups("/trove"); err != nil || !slices.Contains(groups, "a") || !slices.Contains(groups, "b") {
		t.Errorf("groups %v, %v; want those of all hierarchies", groups, err)
	}
}

// TestIOLimits: the limits on a device are written and read in the words of either version, those on other devices are left alone, and no limit takes one away.
func TestIOLimits(t *testing.T) {
	all := cgroup.Limits{Memory: 1 << 30, CPU: cgroup.Period, PIDs: 64, IO: cgroup.IO{Device: "7:3", IOPS: 500, Bandwidth: 8 << 20}}
	none := all
	none.IO.IOPS, none.IO.Bandwidth = 0, 0
	unified := tree(t, map[string]string{
		"cgroup.controllers": "cpu io memory pids\n", "trove/a/memory.max": "max\n", "trove/a/cpu.max": "max 100000\n", "trove/a/pids.max": "max\n",
		"trove/a/io.max": "",
	})
	c := open(t, unified)
	for limits, want := range map[cgroup.Limits]string{
		all:  "7:3 rbps=8388608 wbps=8388608 riops=500 wiops=500",
		none: "7:3 rbps=max wbps=max riops=max wiops=max",
	} {
		if err := c.Set("/trove/a", limits); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"trove/a/io.max": want}, contents(t, unified, "trove/a/io.max")); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if got, err := c.Get("/trove/a", "7:3"); err != nil || got != limits {
			t.Errorf("limits %+v, %v; want %+v", got, err, limits)
		}
	}
	if err := os.WriteFile(filepath.Join(unified, "trove/a/io.max"), []byte("8:0 rbps=1 wbps=1 riops=1 wiops=1\n7:3 rbps=max wbps=100 riops=max wiops=max\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get("/trove/a", "7:3"); err != nil || got.IO == none.IO || got.IO == all.IO {
		t.Errorf("a limit on writes alone is read as %+v, %v", got.IO, err)
	}
	files := map[string]string{
		"memory/trove/a/memory.limit_in_bytes": "1\n", "cpu/trove/a/cpu.cfs_period_us": "1\n", "cpu/trove/a/cpu.cfs_quota_us": "1\n", "pids/trove/a/pids.max": "1\n",
	}
	var names []string
	for _, way := range []string{"read", "write"} {
		for _, unit := range []string{"iops", "bps"} {
			name := "blkio/trove/a/blkio.throttle." + way + "_" + unit + "_device"
			files[name], names = "", append(names, name)
		}
	}
	hierarchies := tree(t, files)
	c = open(t, hierarchies)
	if err := c.Set("/trove/a", all); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{names[0]: "7:3 500", names[1]: "7:3 8388608", names[2]: "7:3 500", names[3]: "7:3 8388608"}
	if diff := cmp.Diff(want, contents(t, hierarchies, names...)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got, err := c.Get("/trove/a", "7:3"); err != nil || got != all || !c.LimitsIO("/trove/a") {
		t.Errorf("limits %+v, %v; want %+v", got, err, all)
	}
	if got, err := c.Get("/trove/a", "7:4"); err != nil || got.IO.IOPS != 0 || got.IO.Bandwidth != 0 {
		t.Errorf("of another device: %+v, %v", got.IO, err)
	}
}

// TestNoIOController: a kernel that cannot throttle has the other limits all the same.
func TestNoIOController(t *testing.T) {
	root := tree(t, map[string]string{
		"cgroup.controllers": "cpu memory pids\n", "trove/a/memory.max": "max\n", "trove/a/cpu.max": "max 100000\n", "trove/a/pids.max": "max\n",
	})
	c := open(t, root)
	l := limits
	l.IO = cgroup.IO{Device: "7:3", IOPS: 500}
	if err := c.Set("/trove/a", l); err != nil || c.LimitsIO("/trove/a") {
		t.Errorf("%v, throttles: %v", err, c.LimitsIO("/trove/a"))
	}
	if got, err := c.Get("/trove/a", ""); err != nil || got != limits {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestGather makes a group anew wherever its parent is, and puts processes into it.
func TestGather(t *testing.T) {
	root := tree(t, map[string]string{
		"memory/trove/x": "", "cpu/trove/x": "", "pids/trove/x": "", "freezer/tasks": "", "cpuset/trove/cpuset.cpus": "0-1\n", "cpuset/trove/cpuset.mems": "0\n",
		"cpuset/trove/a/cpuset.cpus": "\n", "cpuset/trove/a/cpuset.mems": "\n", // the kernel makes them with the group
	})
	c := open(t, root)
	for range 2 {
		if err := c.Gather("/trove/a", []int{12, 13}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"memory/trove/a/cgroup.procs": "13", "cpu/trove/a/cgroup.procs": "13", "pids/trove/a/cgroup.procs": "13", "cpuset/trove/a/cpuset.cpus": "0-1\n",
	}
	if diff := cmp.Diff(want, contents(t, root, "memory/trove/a/cgroup.procs", "cpu/trove/a/cgroup.procs", "pids/trove/a/cgroup.procs", "cpuset/trove/a/cpuset.cpus")); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(root, "freezer/trove")); !os.IsNotExist(err) {
		t.Errorf("a group was made where there was none: %v", err)
	}
}

func TestMissingControllerIsNamed(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"unified":     {"cgroup.controllers": "cpu memory\n"},
		"hierarchies": {"cpu/tasks": "", "memory/tasks": ""},
	} {
		if _, err := cgroup.Open(tree(t, files)); err == nil || !strings.Contains(err.Error(), "pids") {
			t.Errorf("%s: error %v, want one that names pids", name, err)
		}
	}
}

func TestRemoveTakesNestedGroups(t *testing.T) {
	root := tree(t, map[string]string{"cgroup.controllers": "cpu memory pids\n"})
	if err := os.MkdirAll(filepath.Join(root, "trove/a/engine/worker"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := open(t, root)
	for range 2 {
		if err := c.Remove("/trove/a"); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := c.Groups("/trove"); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestEvents(t *testing.T) {
	want := cgroup.Events{Killed: 3, Refused: 70}
	for version, files := range map[string]map[string]string{
		"v1": {
			"memory/p/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "pids/p/g/pids.events": "max 70\n", "cpu/p/g/cpu.shares": "1024\n",
		},
		"v2": {
			"cgroup.controllers": "cpu memory pids\n", "p/g/memory.events": "low 0\nmax 12\noom 4\noom_kill 3\n", "p/g/pids.events": "max 70\n",
		},
	} {
		c := open(t, tree(t, files))
		got, err := c.Events("/p/g")
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", version, got, err, want)
		}
		if got, err := c.Events("/p/none"); err != nil || got != (cgroup.Events{}) {
			t.Errorf("%s: a group that is not there: %+v, %v", version, got, err)
		}
	}
}
