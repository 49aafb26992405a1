package file_test

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/backupstoretest"
	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/internal/clock"
)

func open(t *testing.T, cfg file.Config) *file.Store {
	t.Helper()
	s, err := file.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSuite(t *testing.T) {
	backupstoretest.Run(t, func(t *testing.T) backupstoretest.Setup {
		dir := filepath.Join(t.TempDir(), "objects")
		return backupstoretest.Setup{
			Store: open(t, file.Config{Dir: dir}), Reopen: func(t *testing.T) backupstore.Store { return open(t, file.Config{Dir: dir}) },
		}
	})
}

func put(t *testing.T, s *file.Store, name, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), backupstoretest.Box, name, strings.NewReader(text), backupstore.PutOptions{Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
}

// files returns all paths below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	all := []string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := open(t, file.Config{Dir: dir})
	put(t, s, "4f0e/mariadb-error/Log 1", "x")
	project := backupstoretest.Box.Project
	want := []string{project + ".d/database_logs.d/4f0e.d/mariadb-error.d/%4cog%201.o"}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := s.Remove(t.Context(), backupstoretest.Box, "4f0e/mariadb-error/Log 1"); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "unfinished" {
		t.Errorf("left %v, %v; want only the directory of unfinished files", left, err)
	}
}

func TestNothingIsLeftOfAnUnfinishedWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, file.Config{Dir: dir})
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Put(t.Context(), backupstoretest.Box, "x", reader, backupstore.PutOptions{Size: -1})
		done <- err
	}()
	if _, err := writer.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], "unfinished/") {
		t.Errorf("files %v while it is written, want an unfinished one", got)
	}
	// Another process starts meanwhile, much later by its clock: the writer lives, its file stays.
	late := clock.NewManual(time.Now().Add(24 * time.Hour))
	open(t, file.Config{Dir: dir, Clock: late})
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files %v: a living writer's file was removed", got)
	}
	writer.CloseWithError(errors.New("cut"))
	if err := <-done; err == nil {
		t.Error("half an object was stored")
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("files %v are left", got)
	}
}

func TestCrashedWritersFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	open(t, file.Config{Dir: dir})
	for _, name := range []string{"OLD", "young"} {
		if err := os.WriteFile(filepath.Join(dir, "unfinished", name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "unfinished", "OLD"), old, old); err != nil {
		t.Fatal(err)
	}
	open(t, file.Config{Dir: dir})
	if diff := cmp.Diff([]string{"unfinished/young"}, files(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestLinksAreNotFollowed plants links where the store reads and writes.
func TestLinksAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret.o")
	if err := os.WriteFile(secret, []byte("another tenant's"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, file.Config{Dir: dir})
	put(t, s, "real/x", "mine")
	container := filepath.Join(dir, backupstoretest.Box.Project+".d", "database_logs.d")
	for link, target := range map[string]string{
		"file.o": secret, "dir.d": outside, "inside.d": "real.d", "self.o": "real.d/x.o", "up.d": "../..", "proc.d": "/proc/self/root", "dangling.o": filepath.Join(outside, "new"),
	} {
		if err := os.Symlink(target, filepath.Join(container, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "dir/secret", "inside/x", "self", "up/x", "proc/etc/passwd", "dangling"} {
		if body, _, err := s.Get(t.Context(), backupstoretest.Box, name, backupstore.Range{}); err == nil {
			body.Close()
			t.Errorf("get %q followed a link", name)
		}
		_, err := s.Put(t.Context(), backupstoretest.Box, name, strings.NewReader("x"), backupstore.PutOptions{Size: 1, IfAbsent: true})
		if err == nil {
			t.Errorf("put %q followed a link or replaced it", name)
		}
	}
	listed, err := s.List(t.Context(), backupstoretest.Box, backupstore.ListOptions{})
	if err != nil || len(listed) != 1 || listed[0].Name != "real/x" {
		t.Errorf("listed %+v, %v; want the one object", listed, err)
	}
	if got := files(t, outside); len(got) != 1 {
		t.Errorf("files %v outside, want the one that was there", got)
	}
	data, err := os.ReadFile(secret)
	if err != nil || string(data) != "another tenant's" {
		t.Errorf("the file outside is %q, %v", data, err)
	}
}

func TestDamagedFilesAreRefusedAndHideNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, file.Config{Dir: dir})
	for _, name := range []string{"cut", "moved", "whole", "foreign"} {
		put(t, s, name, strings.Repeat(name, 100))
	}
	container := filepath.Join(dir, backupstoretest.Box.Project+".d", "database_logs.d")
	if err := os.Truncate(filepath.Join(container, "cut.o"), 50); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(container, "moved.o"), filepath.Join(container, "elsewhere.o")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(container, "foreign.o"), []byte(strings.Repeat("\xff", 100)+"troveob1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cut", "elsewhere", "foreign"} {
		if _, err := s.Stat(t.Context(), backupstoretest.Box, name); err == nil || trove.IsNotFound(err) {
			t.Errorf("stat %q: %v, want an error that says what is wrong", name, err)
		}
	}
	listed, err := s.List(t.Context(), backupstoretest.Box, backupstore.ListOptions{})
	if err != nil || len(listed) != 1 || listed[0].Name != "whole" {
		t.Errorf("listed %+v, %v; want the whole one", listed, err)
	}
	for _, prefix := range []string{"cut", "elsewhere", "foreign"} {
		if n, err := s.RemoveAll(t.Context(), backupstoretest.Box, prefix); n != 1 || err != nil {
			t.Errorf("removed %d of %q, %v", n, prefix, err)
		}
	}
}

func TestRoomIsLeftFree(t *testing.T) {
	s := open(t, file.Config{Dir: t.TempDir(), MinFree: math.MaxInt64 / 2})
	_, err := s.Put(t.Context(), backupstoretest.Box, "x", strings.NewReader("x"), backupstore.PutOptions{Size: 1})
	if !errors.Is(err, backupstore.ErrFull) || trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("error %v, want ErrFull", err)
	}
}

// FuzzNames stores under any name, and looks that exactly that name is found again and nothing was made outside the container.
func FuzzNames(f *testing.F) {
	for _, name := range append(backupstoretest.Strange, backupstoretest.Bad...) {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		above := t.TempDir()
		dir := filepath.Join(above, "objects")
		s := open(t, file.Config{Dir: dir})
		_, err := s.Put(t.Context(), backupstoretest.Box, name, strings.NewReader("x"), backupstore.PutOptions{Size: 1})
		if refused := backupstore.CheckName(name) != nil; refused != (err != nil) {
			t.Fatalf("put %q: %v, and CheckName says %v", name, err, backupstore.CheckName(name))
		}
		container := "objects/" + backupstoretest.Box.Project + ".d/database_logs.d/"
		got := files(t, above)
		if err != nil {
			if len(got) != 0 {
				t.Fatalf("%q was refused and left %v", name, got)
			}
			return
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], container) || strings.Contains(got[0], "..") {
			t.Fatalf("%q was stored as %v", name, got)
		}
		listed, err := s.List(t.Context(), backupstoretest.Box, backupstore.ListOptions{Prefix: name})
		if err != nil || len(listed) != 1 || listed[0].Name != name {
			t.Fatalf("%q is listed as %+v, %v", name, listed, err)
		}
	})
}
