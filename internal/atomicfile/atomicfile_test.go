package atomicfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/trove-dbaas/trove/internal/atomicfile"
)

func TestWriteReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"first, longer", "second"} {
		if err := atomicfile.Write(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v, want %q", got, err, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestWriteThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "f")
	if err := os.MkdirAll(filepath.Join(target, "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(target, []byte("x"), 0o600); err == nil {
		t.Fatal("Write over a directory succeeded")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("left over: %v, %v", entries, err)
	}
}

func TestRewriteKeepsOwnerGroupAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := atomicfile.Rewrite(path, []byte("first"), 0o640); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("mode of a new file %v, %v", info.Mode(), err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // others cannot give files away
		uid, gid = 12345, 23456
	}
	if err := errors.Join(os.Chown(path, uid, gid), os.Chmod(path, 0o604)); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Rewrite(path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	of := info.Sys().(*syscall.Stat_t)
	if text, _ := os.ReadFile(path); string(text) != "second" || info.Mode().Perm() != 0o604 || int(of.Uid) != uid || int(of.Gid) != gid {
		t.Errorf("%q of %d:%d with mode %v, want %d:%d", text, of.Uid, of.Gid, info.Mode(), uid, gid)
	}
}
