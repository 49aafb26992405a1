// Package hostcheck takes an inventory of what the local cloud makes on a machine, so that a test can say that nothing was left over: mounts,
// loop devices, links, named network namespaces, packet filter tables, cgroups and processes.
//
// It only reads. Names that belong to the machine itself (kernel threads, the test's own processes) are left out by comparing two inventories; what its init starts
// in between, such as a job of the night or somebody's login, by its place.
package hostcheck

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/internal/execx"
)

// Inventory is what was there, one line each: "mount /x", "loop /y", "link br0".
type Inventory []string

// Take returns the inventory of now. An interface or a tool that is not there is a failure of the test.
func Take(ctx context.Context, t testing.TB) Inventory {
	t.Helper()
	var inv Inventory
	inv = append(inv, mounts(t)...)
	inv = append(inv, loops(t)...)
	inv = append(inv, links(t)...)
	inv = append(inv, tables(ctx, t)...)
	inv = append(inv, cgroups(t)...)
	inv = append(inv, processes(t)...)
	slices.Sort(inv)
	return slices.Compact(inv)
}

// Left returns what is in after and was not in before.
func Left(before, after Inventory) []string {
	var left []string
	for _, line := range after {
		if _, found := slices.BinarySearch(before, line); !found {
			left = append(left, line)
		}
	}
	return left
}

// ofInit reports whether a control group or a mount is of systemd, which makes and removes them at any time.
func ofInit(path string) bool {
	for _, below := range []string{"/run/user/", "/run/credentials/", "/run/systemd/", "/proc/sys/fs/binfmt_misc"} {
		if strings.HasPrefix(path, below) {
			return true
		}
	}
	return strings.HasPrefix(path, "/sys/fs/cgroup/") && slices.ContainsFunc(strings.Split(path, "/"), func(name string) bool {
		return strings.HasSuffix(name, ".slice") || strings.HasSuffix(name, ".scope")
	})
}

func lines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}

func mounts(t testing.TB) []string {
	var all []string
	for _, l := range lines(t, "/proc/self/mountinfo") {
		if f := strings.Fields(l); len(f) > 4 && !ofInit(f[4]) {
			all = append(all, "mount "+f[4])
		}
	}
	return all
}

// loops are the attached loop devices, by the file behind them.
func loops(t testing.TB) []string {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil { // one that is detached meanwhile is gone
			all = append(all, "loop "+strings.TrimSpace(string(data)))
		}
	}
	return all
}

func links(t testing.TB) []string {
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, "link "+e.Name())
	}
	return all
}

func tables(ctx context.Context, t testing.TB) []string {
	t.Helper()
	out, err := execx.Run(ctx, execx.Cmd{Path: "nft", Args: []string{"list", "tables"}})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		all = append(all, "nft "+strings.TrimSpace(line))
	}
	return all
}

// cgroups are the groups of all hierarchies, two levels deep.
func cgroups(t testing.TB) []string {
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if info, err := os.Stat(d); err == nil && info.IsDir() && !ofInit(d) {
				all = append(all, "cgroup "+d)
			}
		}
	}
	return all
}

// processes are those that a deployment could leave, by program: the numbers differ from run to run.
func processes(t testing.TB) []string {
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range dirs {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		argv := strings.Split(string(data), "\x00")
		switch name := filepath.Base(argv[0]); {
		case strings.HasPrefix(name, "trove"), name == "mariadbd", name == "runc":
			all = append(all, "process "+filepath.Dir(f)+" "+name)
		}
	}
	return all
}
