package image_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/image"
)

// The image itself is built and booted by tests/machine.

const mib = 1 << 20

func TestDiskLayout(t *testing.T) {
	dir := t.TempDir()
	first := make([]byte, mib)
	copy(first, "loader")
	root, golden := write(t, dir+"/root", strings.Repeat("r", mib+1)), write(t, dir+"/golden", "g")
	sum, size, err := image.JoinDisk(first, []byte("kernel"), root, golden, dir+"/disk")
	must(t, err)
	data, err := os.ReadFile(dir + "/disk")
	must(t, err)
	if size != 5*mib || len(data) != 5*mib {
		t.Fatalf("the disk has %d bytes, said were %d", len(data), size)
	}
	var table [][3]uint32
	for i := range 4 {
		e := data[446+16*i:]
		table = append(table, [3]uint32{uint32(e[4]), binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])})
	}
	if diff := cmp.Diff([][3]uint32{{0xda, 2048, 2048}, {0x83, 4096, 4096}, {0x83, 8192, 2048}, {}}, table); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
	if data[446] != 0x80 || string(data[510:512]) != "\x55\xaa" {
		t.Error("no BIOS would start this disk")
	}
	for at, want := range map[int]string{0: "loader", mib: "kernel\x00", 2 * mib: "rrr", 3 * mib: "r\x00", 4 * mib: "g\x00"} {
		if got := string(data[at : at+len(want)]); got != want {
			t.Errorf("at %d is %q, not %q", at, got, want)
		}
	}
	// The database is another one in each build; all else is the same.
	other, _, err := image.JoinDisk(first, []byte("kernel"), root, write(t, dir+"/golden2", strings.Repeat("G", 2*mib)), dir+"/disk2")
	must(t, err)
	none, _, err := image.JoinDisk(first, []byte("kernel"), root, "", dir+"/disk3")
	must(t, err)
	changed, _, err := image.JoinDisk(first, []byte("kerneL"), root, "", dir+"/disk4")
	must(t, err)
	if sum != other || sum != none || sum == changed {
		t.Errorf("sums are %s, %s, %s, and of another kernel %s", sum, other, none, changed)
	}
}

func TestInitialRootIsAnArchive(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("needs cpio")
	}
	dir := t.TempDir()
	archive := image.Cpio([]string{"bin"}, map[string]string{"bin/sh": "#!", "init": strings.Repeat("x", 4097)})
	cmd := exec.CommandContext(t.Context(), "cpio", "--extract", "--quiet", "--no-preserve-owner")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	for name, size := range map[string]int64{"bin/sh": 2, "init": 4097} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Size() != size || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if len(archive)%512 != 0 {
		t.Errorf("it has %d bytes, no whole sectors", len(archive))
	}
}

func kernelTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := dir + "/usr/lib/modules/6.1.0/"
	must(t, os.MkdirAll(at+"kernel", 0o755))
	for _, m := range []string{"virtio.ko", "virtio-ring.ko", "virtio_blk.ko", "other.ko.xz"} {
		write(t, at+"kernel/"+m, m)
	}
	write(t, at+"modules.dep", "kernel/virtio.ko:\nkernel/virtio-ring.ko: kernel/virtio.ko\n"+
		"kernel/virtio_blk.ko: kernel/virtio-ring.ko kernel/virtio.ko\nkernel/other.ko.xz:\n")
	write(t, at+"modules.builtin", "kernel/fs/ext4.ko\n")
	return dir
}

func TestModulesOfTheKernel(t *testing.T) {
	dir := kernelTree(t)
	got, err := image.KeepModules(dir, []string{"virtio_ring", "ext4", "virtio_blk"}, false)
	must(t, err)
	if diff := cmp.Diff([]string{"kernel/virtio.ko", "kernel/virtio-ring.ko", "kernel/virtio_blk.ko"}, got); diff != "" {
		t.Errorf("in the order of loading (-want +got):\n%s", diff)
	}
	left, err := filepath.Glob(dir + "/usr/lib/modules/6.1.0/kernel/*")
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v, %v", left, err)
	}
	if _, err := image.KeepModules(dir, []string{"xfs"}, false); err == nil || !strings.Contains(err.Error(), "no module xfs") {
		t.Errorf("a module that is needed and not there: %v", err)
	}
	if got, err := image.KeepModules(dir, []string{"xfs"}, true); err != nil || len(got) > 0 {
		t.Errorf("a module that may be missing: %v, %v", got, err)
	}
}

func TestMachinesLock(t *testing.T) {
	own := [][3]string{{"engine", "1", "h1"}, {"libc", "2", "h2"}}
	machine := [][3]string{{"kernel", "6", "h3"}, {"libc", "1", "h0"}, {"ofanother", "5", "h5"}}
	now := [][3]string{{"engine", "1", "h1"}, {"libc", "2", "h2"}, {"kernel", "7", "h7"}, {"systemd", "9", "h9"}}
	written, changes, err := image.LearnLock(own, machine, now)
	must(t, err)
	// What the recipe has in its own lock is not written, and not said to be missing; what images of other recipes have is kept.
	if diff := cmp.Diff([]string{"kernel is 7 in place of 6", "systemd 9 is new"}, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	want := [][3]string{{"kernel", "7", "h7"}, {"libc", "1", "h0"}, {"ofanother", "5", "h5"}, {"systemd", "9", "h9"}}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("the lock (-want +got):\n%s", diff)
	}
}

func TestEverySuiteHasAMachinesLock(t *testing.T) {
	locks, err := image.MachineLocks()
	must(t, err)
	all, err := image.Recipes()
	must(t, err)
	for _, r := range all {
		if locks[r.Suite] < 30 {
			t.Errorf("the lock of the machine's packages in %s has %d", r.Suite, locks[r.Suite])
		}
	}
}

func TestMachinesRoot(t *testing.T) {
	for _, keys := range []string{"", "ssh-ed25519 AAAA somebody\n"} {
		dir := t.TempDir()
		for _, name := range []string{"etc/systemd/system/stale.service", "usr/lib/systemd/system/sysinit.target.wants/x.service", "boot/vmlinuz-6", "etc/resolv.conf"} {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			write(t, filepath.Join(dir, name), "old")
		}
		agent := write(t, t.TempDir()+"/agent", "program")
		var lines []byte
		if keys != "" {
			lines = []byte(keys)
		}
		must(t, image.FinishMachine(dir, agent, lines))
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			return string(data)
		}
		for _, name := range []string{"etc/systemd/system/stale.service", "usr/lib/systemd/system/sysinit.target.wants", "boot/vmlinuz-6"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
		if read("agent/trove-guestagent") != "program" {
			t.Error("the agent is not there")
		}
		// Every unit that the target names is one of ours or of systemd's sockets, and starts what it says.
		target := read("etc/systemd/system/default.target")
		for word := range strings.FieldsSeq(target) {
			if name := strings.TrimPrefix(word, "Wants="); strings.HasPrefix(name, "trove-") || strings.HasSuffix(name, ".mount") {
				if unit := read("etc/systemd/system/" + name); !strings.Contains(unit, "DefaultDependencies=no") {
					t.Errorf("%s waits for units that are not there", name)
				}
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "etc/acpi/PWRF/00000080")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("what the power button starts: %v, %v", info, err)
		}
		if to, err := os.Readlink(filepath.Join(dir, "etc/resolv.conf")); err != nil || to != "../run/resolv.conf" {
			t.Errorf("resolv.conf leads to %q, %v", to, err)
		}
		_, err := os.Stat(filepath.Join(dir, "etc/ssh/trove_keys"))
		if _, unit := os.Lstat(filepath.Join(dir, "etc/systemd/system/trove.target.wants/trove-ssh.service")); (err == nil) != (keys != "") || (unit == nil) != (keys != "") {
			t.Errorf("with the keys %q: %v, %v", keys, err, unit)
		}
	}
}

func TestReadDiskOfNothing(t *testing.T) {
	if _, err := image.ReadDisk(t.TempDir() + "/x.qcow2"); !trove.IsNotFound(err) {
		t.Errorf("ReadDisk = %v", err)
	}
}

func TestZerosAtTheEndOfLargeFilesAreCut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/db/log", "redo"+strings.Repeat("\x00", 3*mib))
	write(t, dir+"/db/holes", "a"+strings.Repeat("\x00", 2*mib)+"b")
	write(t, dir+"/db/small", "c\x00\x00")
	must(t, image.TrimTree(dir))
	got := map[string]int64{}
	for _, name := range []string{"log", "holes", "small"} {
		info, err := os.Stat(dir + "/db/" + name)
		must(t, err)
		got[name] = info.Size()
	}
	if diff := cmp.Diff(map[string]int64{"log": 4, "holes": 2*mib + 2, "small": 3}, got); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	sizes, err := os.ReadFile(dir + "/.trove-sizes")
	if err != nil || string(sizes) != `{"db/log":3145732}` {
		t.Errorf("sizes are %s, %v", sizes, err)
	}
}
