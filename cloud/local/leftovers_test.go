package local_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/internal/clock"
)

var deploymentName = regexp.MustCompile(`trove-[0-9a-f]{8}\b`)

// deploymentGroup is the control group of an instance. Ended processes that nobody asked after are in its parent.
var deploymentGroup = regexp.MustCompile(`trove-[0-9a-f]{8}/[0-9a-f-]{36}`)

var (
	ourMu sync.Mutex
	our   []string // state directories and names of the deployments that deploy made
)

// isOurs reports whether a path is in the state of a deployment that these tests made, or a name is of one.
func isOurs(path string) bool {
	ourMu.Lock()
	defer ourMu.Unlock()
	return slices.ContainsFunc(our, func(state string) bool { return strings.HasPrefix(path, state) })
}

// everything lists what the tests of this package could leave on the machine: mounts, loops, control groups, links to user ids, processes. What is known to
// be of another deployment is left out: it may change meanwhile.
func everything(tb testing.TB) []string {
	tb.Helper()
	var all []string
	keep := func(kind, text string) {
		for _, name := range deploymentName.FindAllString(text, -1) {
			state, _ := os.ReadFile(filepath.Join("/run", name, "state"))
			if !isOurs(name) && !isOurs(string(state)) {
				return
			}
		}
		all = append(all, kind+" "+text)
	}
	for line := range strings.Lines(read(tb, "/proc/self/mountinfo")) {
		if point := strings.Fields(line)[4]; deploymentName.MatchString(point) {
			keep("mount", point)
		}
	}
	for _, file := range glob(tb, "/sys/block/loop*/loop/backing_file") {
		if data, err := os.ReadFile(file); err == nil && isOurs(string(data)) {
			keep("loop", strings.TrimSpace(string(data)))
		}
	}
	for _, pattern := range []string{"/run/trove-*", "/run/netns/trove-*", "/sys/fs/cgroup/trove-*", "/sys/fs/cgroup/*/trove-*", "/sys/fs/cgroup/*/trove-*/*-*"} {
		for _, file := range glob(tb, pattern) {
			// Those called trove-test are of the tests of package sandbox, which may run at the same time.
			if file != "/run/trove-ids" && file != "/run/trove-network.lock" && !strings.Contains(file, "/trove-test-") {
				keep("file", file)
			}
		}
	}
	for _, link := range glob(tb, "/run/trove-ids/*") {
		if owner, err := os.Readlink(link); err == nil {
			keep("ids", owner)
		}
	}
	for _, file := range glob(tb, "/proc/[0-9]*/cgroup") {
		data, err := os.ReadFile(file)
		if name := deploymentGroup.FindString(string(data)); err == nil && name != "" && !strings.Contains(string(data), "(deleted)") {
			keep("process", filepath.Dir(file)+" in "+name)
		}
	}
	slices.Sort(all)
	return all
}

// leftOver returns what was not there before, and stays. Tests of other packages run on this machine at the same time, and what they make for a moment, such as
// a probe of the network, has names like ours.
func leftOver(tb testing.TB, before []string) []string {
	tb.Helper()
	left := slices.DeleteFunc(everything(tb), func(entry string) bool { return slices.Contains(before, entry) })
	for end := time.Now().Add(time.Minute); len(left) > 0 && time.Now().Before(end); {
		if err := clock.Sleep(tb.Context(), 100*time.Millisecond); err != nil {
			tb.Fatal(err)
		}
		now := everything(tb)
		left = slices.DeleteFunc(left, func(entry string) bool { return !slices.Contains(now, entry) })
	}
	return left
}

var instanceID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// ofInstances returns what belongs to the instances of one deployment, not to the whole of it.
func ofInstances(p *local.Provider, all []string) []string {
	var own []string
	for _, entry := range all {
		if strings.Contains(entry, filepath.Base(p.RunDir())) && instanceID.MatchString(entry) {
			own = append(own, entry)
		}
	}
	return own
}

func glob(tb testing.TB, pattern string) []string {
	tb.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}
