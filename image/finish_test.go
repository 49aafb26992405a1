package image_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/image"
)

// rootTree makes a small root file system with everything that must not reach a guest.
func rootTree(t *testing.T) string {
	t.Helper()
	outside := write(t, t.TempDir()+"/outside", "untouched")
	dir := t.TempDir()
	for path, text := range map[string]string{
		"etc/passwd": "root:*:0:0:root:/root:/bin/bash\n", "etc/group": "root:*:0:\n", "etc/shadow": "root:secret:1::::::\n", "etc/resolv.conf": "nameserver 192.0.2.1\n",
		"etc/apt/sources.list": "deb http://mirror.test/ x main\n", "usr/bin/su": "x", "var/cache/a/b": "x", "var/cache/keep/../c": "x", "dev/null": "x", "root/.bashrc": "x",
		"usr/share/doc/p/copyright": "x",
	} {
		write(t, filepath.Join(dir, path), text)
	}
	must(t, os.Chmod(dir+"/usr/bin/su", 0o755|fs.ModeSetuid))
	must(t, os.Chmod(dir+"/var/cache", 0o755))     // whatever our umask is
	must(t, os.Symlink(outside, dir+"/etc/hosts")) // a link that leads out of the tree
	t.Cleanup(func() {
		if data, err := os.ReadFile(outside); err != nil || string(data) != "untouched" {
			t.Errorf("a file outside of the tree is %q, %v", data, err)
		}
	})
	return dir
}

func TestFinishLeavesNothingOfTheBuilder(t *testing.T) {
	dir := rootTree(t)
	r := image.TestRecipe{Account: image.TestAccount{Name: "mysql", UID: 990, GID: 991, Home: "/data/mysql"}, Remove: []string{"etc/apt", "var/cache/*", "usr/share/doc"}}
	must(t, image.Finish(dir, r))
	for path, want := range map[string]string{
		"etc/passwd": "root:*:0:0:root:/root:/bin/bash\nmysql:x:990:991::/data/mysql:/usr/sbin/nologin\n", "etc/group": "root:*:0:\nmysql:x:991:\n",
		"etc/resolv.conf": "", "etc/machine-id": "", "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"etc/apt", "etc/shadow", "var/cache/a", "var/cache/c", "dev/null", "root/.bashrc", "usr/share/doc"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range []string{"data", "agent", "config", "proc", "sys", "dev", "run", "tmp", "var/cache"} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v, want a directory with mode 0755", path, info, err)
		}
	}
	info, err := os.Stat(dir + "/usr/bin/su")
	must(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("su has mode %v", info.Mode())
	}
}

// TestProgramsOfARecipeCanBeRunByTheEngine: a guest has user ids of its own, and so none of the rights of who builds.
func TestProgramsOfARecipeCanBeRunByTheEngine(t *testing.T) {
	dir := rootTree(t)
	old := syscall.Umask(0o077)
	err := image.Finish(dir, image.TestRecipe{
		Account:  image.TestAccount{Name: "mysql", UID: 990, GID: 991, Home: "/data/mysql"},
		Programs: []image.TestScript{{Paths: []string{"usr/lib/trove/previous/run"}, Lines: []string{"#!/bin/sh"}}},
	})
	syscall.Umask(old)
	must(t, err)
	for _, path := range []string{"usr/lib", "usr/lib/trove", "usr/lib/trove/previous", "usr/lib/trove/previous/run"} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v, want the mode 0755", path, info, err)
		}
	}
}

func TestFinishDropsFileCapabilities(t *testing.T) {
	needRoot(t)
	dir := rootTree(t)
	// cap_net_raw+ep, in the form of revision 2
	capability := []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	must(t, unix.Setxattr(dir+"/usr/bin/su", "security.capability", capability, 0))
	must(t, image.Finish(dir, image.TestRecipe{Account: image.TestAccount{Name: "mysql", UID: 990, GID: 990, Home: "/data"}}))
	if n, err := unix.Getxattr(dir+"/usr/bin/su", "security.capability", make([]byte, 64)); err == nil {
		t.Errorf("the capability is still there, %d bytes", n)
	}
}

func TestFinishGivesAnAccountOfThePackagesItsNumbers(t *testing.T) {
	dir := rootTree(t)
	for name, line := range map[string]string{"etc/passwd": "postgres:x:100:102:admin:/var/lib/postgresql:/bin/bash\n", "etc/group": "postgres:x:102:\n"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(line)
		must(t, err)
		must(t, f.Close())
	}
	r := image.TestRecipe{
		Account: image.TestAccount{Name: "postgres", UID: 990, GID: 991, Home: "/data/pgsql"}, Append: map[string]string{"etc/passwd": "added:x:7:7::/:/bin/false\n"},
	}
	must(t, image.Finish(dir, r))
	passwd, err := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	must(t, err)
	group, err := os.ReadFile(filepath.Join(dir, "etc/group"))
	must(t, err)
	text := string(passwd) + string(group)
	for _, line := range []string{"postgres:x:990:991::/data/pgsql:/usr/sbin/nologin\n", "postgres:x:991:\n", "added:x:7:7::/:/bin/false\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
	if strings.Count(text, "postgres:") != 2 {
		t.Errorf("the account is there twice:\n%s", text)
	}
	r.Append = map[string]string{"etc/none": "x"}
	if err := image.Finish(rootTree(t), r); err == nil {
		t.Error("a text for a file that is not there was taken")
	}
}

func TestFinishRefusesTheAccountOfRoot(t *testing.T) {
	err := image.Finish(rootTree(t), image.TestRecipe{Account: image.TestAccount{Name: "root", UID: 990, GID: 990, Home: "/"}})
	if err == nil || !strings.Contains(err.Error(), "account root") {
		t.Errorf("Finish() = %v", err)
	}
}
