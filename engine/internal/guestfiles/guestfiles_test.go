package guestfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

func owner(t *testing.T, path string) (mode os.FileMode, uid, gid int) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return info.Mode(), int(st.Uid), int(st.Gid)
}

// someone is who files are made for: another account where the test may give files away.
func someone() (uid, gid int) {
	if os.Geteuid() == 0 {
		return 990, 991
	}
	return os.Geteuid(), os.Getegid()
}

func TestEnsureDir(t *testing.T) {
	uid, gid := someone()
	dir := filepath.Join(t.TempDir(), "d")
	for _, perm := range []os.FileMode{0o700, 0o711, 0o711} {
		if err := guestfiles.EnsureDir(dir, perm, uid, gid); err != nil {
			t.Fatal(err)
		}
		if mode, u, g := owner(t, dir); mode != os.ModeDir|perm || u != uid || g != gid {
			t.Errorf("%v of %d:%d", mode, u, g)
		}
	}
}

// TestEnsureDirFollowsNoLink: who can write beside it gets no folder of somebody else's.
func TestEnsureDirFollowsNoLink(t *testing.T) {
	uid, gid := someone()
	outside, link := t.TempDir(), filepath.Join(t.TempDir(), "d")
	mode, u, g := owner(t, outside)
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	if err := guestfiles.EnsureDir(link, 0o711, uid, gid); err == nil {
		t.Error("a link is taken for a folder")
	}
	if m, uu, gg := owner(t, outside); m != mode || uu != u || gg != g {
		t.Errorf("what the link points to is %v of %d:%d", m, uu, gg)
	}
}

func TestWrite(t *testing.T) {
	uid, gid := someone()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, path); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one, and longer", "two"} {
		if err := guestfiles.Write(path, []byte(text), 0o400, uid, gid); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if mode, u, g := owner(t, path); string(data) != text || mode != 0o400 || u != uid || g != gid {
			t.Errorf("%q (%v), %v of %d:%d", data, err, mode, u, g)
		}
	}
	if data, err := os.ReadFile(outside); string(data) != "untouched" {
		t.Errorf("what a link pointed to is %q, %v", data, err)
	}
	if err := guestfiles.Write(filepath.Join(dir, "none", "f"), nil, 0o400, uid, gid); err == nil {
		t.Error("written into a folder that is not there")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := guestfiles.Write(filepath.Join(dir, "taken"), nil, 0o400, uid, gid); err == nil {
		t.Error("a folder was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExists(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dir: true, link: true, filepath.Join(dir, "none"): false} {
		if there, err := guestfiles.Exists(path); err != nil || there != want {
			t.Errorf("%s: %v, %v", path, there, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if there, err := guestfiles.Exists(filepath.Join(file, "below")); err == nil || there {
		t.Errorf("below a file: %v, %v", there, err)
	}
}

func TestSelfSigned(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, instance := range []string{"0a8e5f2c", ""} {
		cert, key, err := guestfiles.SelfSigned(instance, now)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(pair.Leaf)
		for _, at := range []time.Time{now.Add(-59 * time.Minute), now.AddDate(9, 0, 0)} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: instance, CurrentTime: at}); err != nil {
				t.Errorf("%q at %s: %v", instance, at, err)
			}
		}
		if pair.Leaf.Subject.CommonName != instance || instance == "" && len(pair.Leaf.DNSNames) > 0 {
			t.Errorf("%q: %q, %q", instance, pair.Leaf.Subject, pair.Leaf.DNSNames)
		}
	}
}
