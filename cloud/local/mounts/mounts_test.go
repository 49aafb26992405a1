package mounts_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/mounts"
)

const base = 0x6f020000

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts and user namespaces")
	}
}

func TestBindMapsIDs(t *testing.T) {
	needRoot(t)
	source, target := t.TempDir(), t.TempDir()
	t.Cleanup(func() {
		if err := mounts.Unmount(target); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(source, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(source, "f"), 999, 998); err != nil {
		t.Fatal(err)
	}
	ns, err := mounts.NewUserNS(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time finds it
		if err := mounts.Bind(source, target, mounts.ReadOnly|mounts.NoSuid, ns); err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Close(); err != nil { // the mapping outlives it
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(target, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != base+999 || st.Gid != base+998 {
		t.Errorf("owner %d:%d, want %d:%d", st.Uid, st.Gid, base+999, base+998)
	}
	if err := os.WriteFile(filepath.Join(target, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v, want a read-only file system", err)
	}
	if err := mounts.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if on, err := mounts.Mounted(target); err != nil || on {
		t.Errorf("after unmounting: %v, %v", on, err)
	}
}

func TestTmpfsIsBounded(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := mounts.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	if err := mounts.Tmpfs(dir, 1<<20, 0o711); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("mode %v, %v; want 0711", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "much"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing 2 MiB: %v, want no space", err)
	}
}

func TestMountedOfWhatIsNotThere(t *testing.T) {
	if on, err := mounts.Mounted(filepath.Join(t.TempDir(), "none")); err != nil || on {
		t.Errorf("got %v, %v", on, err)
	}
	if err := mounts.UnmountBelow(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}
