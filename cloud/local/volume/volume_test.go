package volume_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	mib  = int64(1) << 20
	base = 0x6f010000
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
}

// golden makes a small file system with a file in it that belongs to user 999.
func golden(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "golden.img")
	if err := volume.Make(t.Context(), volume.Spec{Image: path, Size: 320 * mib}); err != nil {
		t.Fatal(err)
	}
	target := mountPoint(t)
	if _, err := volume.Attach(path, target, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(target, "ibdata1")
	if err := os.WriteFile(file, bytes.Repeat([]byte("golden"), 1<<18), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 999, 999); err != nil {
		t.Fatal(err)
	}
	if err := volume.Detach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return path
}

func mountPoint(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := volume.Detach(ctx, dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func capacity(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize
}

// TestWithoutDirectIO: on a file system that does not do it a volume works through the page cache, and says so. The one here cannot reserve space either.
func TestWithoutDirectIO(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	image, target := filepath.Join(dir, "volume.img"), mountPoint(t)
	err := volume.Make(t.Context(), volume.Spec{Image: image, Size: 320 * mib, Reserve: true})
	if err == nil || !strings.Contains(err.Error(), "cannot reserve space") {
		t.Errorf("a file system that cannot reserve space: %v", err)
	}
	if err := volume.Make(t.Context(), volume.Spec{Image: image, Size: 320 * mib}); err != nil {
		t.Fatal(err)
	}
	a, err := volume.AttachSparse(image, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Direct {
		t.Error("ramfs does direct I/O: another file system is needed for this test")
	}
	file := filepath.Join(target, "data")
	if err := os.WriteFile(file, bytes.Repeat([]byte("trove"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := volume.Extend(image, target, 400*mib, false); err != nil {
		t.Fatal(err)
	}
	if got := capacity(t, target); got < 330*mib {
		t.Errorf("grown to %d MiB", got/mib)
	}
	if err := volume.Detach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if _, err := volume.AttachSparse(image, target, nil); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || len(data) != 5<<20 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestVolumeFromGolden(t *testing.T) {
	needRoot(t)
	from := golden(t)
	ns, err := mounts.NewUserNS(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	image, target := filepath.Join(t.TempDir(), "volume.img"), mountPoint(t)
	spec := volume.Spec{Image: image, Size: 512 * mib, Golden: from, Reserve: true}
	for range 2 { // the second time changes nothing
		if err := volume.Make(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		a, err := volume.Attach(image, target, ns)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Direct {
			t.Log("this file system does no direct I/O through loops")
		}
	}
	if got := blocks(t, image); got < spec.Size {
		t.Errorf("%d bytes are reserved, want %d", got, spec.Size)
	}
	data, err := os.ReadFile(filepath.Join(target, "ibdata1"))
	if err != nil || !bytes.Equal(data, bytes.Repeat([]byte("golden"), 1<<18)) {
		t.Fatalf("the copy has %d bytes of the file: %v", len(data), err)
	}
	info, err := os.Stat(filepath.Join(target, "ibdata1"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != base+999 {
		t.Errorf("the file belongs to %d, want %d", uid, base+999)
	}
	if got := capacity(t, target); got < 400*mib {
		t.Errorf("the file system has %d MiB, want nearly 512", got/mib)
	}

	// Larger, with a file open all the while.
	f, err := os.OpenFile(filepath.Join(target, "ibdata1"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := volume.Extend(image, target, 1024*mib, true); err != nil {
		t.Fatal(err)
	}
	if got := capacity(t, target); got < 900*mib {
		t.Errorf("after growing the file system has %d MiB, want nearly 1024", got/mib)
	}
	if _, err := f.WriteAt([]byte("silver"), 0); err != nil {
		t.Error(err)
	}
	f.Close()
	a, err := volume.Find(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := volume.Detach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	// The kernel may have given the device to somebody else at once.
	if behind, err := os.ReadFile("/sys/block/" + filepath.Base(a.Device) + "/loop/backing_file"); err == nil && strings.HasPrefix(string(behind), image) {
		t.Errorf("%s is still attached", a.Device)
	}
	if _, err := volume.Find(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after detaching: %v", err)
	}
	if err := volume.Remove(image); err != nil {
		t.Fatal(err)
	}
	if err := volume.Remove(image); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

func TestGrowthWhileDetachedIsCaughtUp(t *testing.T) {
	needRoot(t)
	image, target := filepath.Join(t.TempDir(), "volume.img"), mountPoint(t)
	if err := volume.Make(t.Context(), volume.Spec{Image: image, Size: 320 * mib}); err != nil {
		t.Fatal(err)
	}
	if got := blocks(t, image); got > 100*mib {
		t.Errorf("without a reservation the file takes %d MiB", got/mib)
	}
	if err := volume.Extend(image, target, 640*mib, false); err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Attach(image, target, nil); err != nil {
		t.Fatal(err)
	}
	if got := capacity(t, target); got < 500*mib {
		t.Errorf("the file system has %d MiB, want nearly 640", got/mib)
	}
}

func TestNoSpaceLeavesNothing(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := mounts.Tmpfs(dir, 64*mib, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounts.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	image := filepath.Join(dir, "volume.img")
	from := filepath.Join(t.TempDir(), "golden.img")
	if err := os.WriteFile(from, []byte("golden"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := volume.Make(t.Context(), volume.Spec{Image: image, Size: 320 * mib, Golden: from, Reserve: true})
	if !errors.Is(err, volume.ErrNoSpace) {
		t.Fatalf("got %v, want ErrNoSpace", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestCopyKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	// Data, hole, data that does not end on a block, hole to the end.
	for at, text := range map[int64]string{0: "first", 40*mib + 5: "second", 63 * mib: "third"} {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(100 * mib); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := volume.Copy(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cmp", source, target).CombinedOutput(); err != nil {
		t.Errorf("copy differs: %s", out)
	}
	if got := blocks(t, target); got > mib {
		t.Errorf("the copy takes %d bytes, want the holes kept", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := volume.Copy(ctx, source, target+"2"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled copy: %v", err)
	}
	if _, err := os.Stat(target + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cancelled copy left a file: %v", err)
	}
}

func TestShelf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shelf")
	source := filepath.Join(t.TempDir(), "golden.img")
	if err := os.WriteFile(source, []byte("golden"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "k@1.part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shelf := volume.NewShelf(dir, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		shelf.Run(ctx, func(err error) { t.Error(err) })
	}()
	if got := shelf.Take("k", source); got != "" {
		t.Fatalf("an empty shelf gave %q", got)
	}
	deadline := time.Now().Add(time.Minute)
	var first string
	for first = shelf.Take("k", source); first == ""; first = shelf.Take("k", source) {
		if time.Now().After(deadline) {
			t.Fatal("the shelf was not filled within a minute")
		}
		if err := clock.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
	if data, err := os.ReadFile(first); err != nil || string(data) != "golden" {
		t.Errorf("the spare holds %q, %v", data, err)
	}
	if second := shelf.Take("k", source); second == first {
		t.Error("the same spare was given out twice")
	}
	if _, err := os.Stat(filepath.Join(dir, "k@1.part")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished copy is still there: %v", err)
	}
}

// TestAttachTwiceIsOneFileSystem has a mount of the volume that Attach does not know, as a mount namespace of another program may have.
func TestAttachTwiceIsOneFileSystem(t *testing.T) {
	needRoot(t)
	image, first, second := filepath.Join(t.TempDir(), "volume.img"), mountPoint(t), mountPoint(t)
	if err := volume.Make(t.Context(), volume.Spec{Image: image, Size: 320 * mib}); err != nil {
		t.Fatal(err)
	}
	a, err := volume.Attach(image, first, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := volume.Attach(image, second, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Device != b.Device {
		t.Fatalf("the volume is on %s and on %s: two file systems over the same blocks", a.Device, b.Device)
	}
	if err := os.WriteFile(filepath.Join(first, "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(second, "x")); err != nil || string(data) != "x" {
		t.Errorf("the second mount shows %q, %v", data, err)
	}
	// The device stays in use, and detaching the first does not wait for it for ever.
	if err := volume.Detach(t.Context(), first); err != nil {
		t.Error(err)
	}
}
