package hostcheck //nolint:testpackage // of things that only a machine with systemd has

import "testing"

// TestJobsOfTheMachineAreNotLeftOver: systemd starts what it likes while a test runs.
func TestJobsOfTheMachineAreNotLeftOver(t *testing.T) {
	for path, want := range map[string]bool{
		"/sys/fs/cgroup/system.slice/apt-daily.service":     true,
		"/sys/fs/cgroup/pids/system.slice":                  true,
		"/sys/fs/cgroup/user.slice/user-0.slice":            true,
		"/sys/fs/cgroup/init.scope":                         true,
		"/run/user/0":                                       true,
		"/run/credentials/systemd-tmpfiles-clean.service":   true,
		"/sys/fs/cgroup/trove-0a1b2c3d":                     false,
		"/sys/fs/cgroup/pids/trove-0a1b2c3d/some-instance":  false,
		"/run/trove-0a1b2c3d/i/some-instance/data":          false,
		"/srv/trove.slice/var/cache/roots/.tmp-1/rootfs":    false,
		"/sys/fs/cgroup/memory/trove-0a1b2c3d/some-session": false,
	} {
		if got := ofInit(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}
