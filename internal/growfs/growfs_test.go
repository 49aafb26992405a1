package growfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/growfs"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// mounted makes a file system on a loop device whose file then grows, and returns where it is mounted.
func mounted(t *testing.T, mkfs []string, from, to int64) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: a file system is mounted")
	}
	dir := t.TempDir()
	img, at := filepath.Join(dir, "img"), filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, from); err != nil {
		t.Fatal(err)
	}
	run(mkfs[0], append(mkfs[1:], img)...)
	if err := os.Truncate(img, to); err != nil {
		t.Fatal(err)
	}
	run("mount", "-o", "loop", img, at)
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

func size(t *testing.T, at string) int64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Blocks) * fs.Bsize
}

func mayUseResources(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func TestFill(t *testing.T) {
	for name, mkfs := range map[string][]string{"xfs": {"mkfs.xfs", "-q"}, "ext4": {"mkfs.ext4", "-q", "-F"}, "ext3": {"mkfs.ext3", "-q", "-F"}} {
		t.Run(name, func(t *testing.T) {
			if name != "xfs" && !mayUseResources(t) {
				t.Skip("needs CAP_SYS_RESOURCE, without which the kernel grows no ext4")
			}
			at := mounted(t, mkfs, 320*mib, 640*mib)
			before := size(t, at)
			for i, want := range []bool{true, false} {
				if grown, err := growfs.Fill(at, 640*mib); err != nil || grown != want {
					t.Fatalf("Fill %d = %t, %v", i+1, grown, err)
				}
			}
			if after := size(t, at); after < before+280*mib {
				t.Errorf("it had %d MiB and has %d", before/mib, after/mib)
			}
		})
	}
}

// What an ext4 keeps for its tables grows with it: at 50 GiB it is more than the GiB that a growth adds, and statfs tells nothing of it.
func TestALargeExt4GrowsByOneGiB(t *testing.T) {
	for name, mkfs := range map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "ext3": {"mkfs.ext3", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"}} {
		t.Run(name, func(t *testing.T) {
			if !mayUseResources(t) {
				t.Skip("needs CAP_SYS_RESOURCE, without which the kernel grows no ext4")
			}
			at := mounted(t, mkfs, 60*gib, 61*gib)
			before := size(t, at)
			for i, want := range []bool{true, false} {
				if grown, err := growfs.Fill(at, 61*gib); err != nil || grown != want {
					t.Fatalf("Fill %d = %t, %v", i+1, grown, err)
				}
			}
			if after := size(t, at); after < before+gib*9/10 {
				t.Errorf("it had %d MiB and has %d", before/mib, after/mib)
			}
		})
	}
}

func TestWhatCannotGrowIsSaid(t *testing.T) {
	if _, err := growfs.Fill("/proc", mib); err == nil || !strings.Contains(err.Error(), "not xfs or ext4") {
		t.Errorf("Fill = %v", err)
	}
}
