package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// spec is a build that gets as far as the archive.
func spec(t *testing.T) image.BuildSpec {
	t.Helper()
	dir := t.TempDir()
	return image.BuildSpec{
		Datastore: "mariadb", Version: "10.11", ImagesDir: dir + "/images", CacheDir: dir + "/cache", AgentBinary: write(t, dir+"/agent", "#!/bin/true\n"),
		Engine: func(string) (engine.Info, error) { return fake.New().Info(), nil }, AptDir: dir + "/apt",
	}
}

func wantSentence(t *testing.T, err error, kind trove.Kind, words ...string) {
	t.Helper()
	message := trove.MessageOf(err)
	if trove.KindOf(err) != kind {
		t.Errorf("error = %v, want kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("sentence = %q, want %q in it", message, w)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a build refuses to begin without")
	}
}

func TestEveryRecipeHasALock(t *testing.T) {
	all, err := image.EveryRecipe()
	must(t, err)
	if len(all) == 0 {
		t.Fatal("there is no recipe")
	}
	for name, packages := range all {
		if packages < 20 {
			t.Errorf("the lock of %s has %d packages", name, packages)
		}
	}
}

func TestBuildOfAnUnknownVersionNamesTheKnownOnes(t *testing.T) {
	s := spec(t)
	s.Version = "1.0"
	_, err := image.Build(t.Context(), s)
	wantSentence(t, err, trove.KindNotFound, "mariadb 1.0", "mariadb 10.11")
}

func TestBuildWithoutTheAgent(t *testing.T) {
	s := spec(t)
	s.AgentBinary += "-gone"
	_, err := image.Build(t.Context(), s)
	wantSentence(t, err, trove.KindBadRequest, "agent-gone", "build it first")
}

func TestBuildWithTheArchiveAwaySaysSoAndLeavesNothing(t *testing.T) {
	needRoot(t)
	s := spec(t)
	write(t, s.AptDir+"/sources.list", "deb [trusted=yes] http://127.0.0.1:1/debian bookworm main\n") // nobody listens on port 1
	var events []image.Event
	s.Progress = func(e image.Event) { events = append(events, e) }
	_, err := image.Build(t.Context(), s)
	wantSentence(t, err, trove.KindUnavailable, "archive cannot be reached", s.AptDir)
	if len(events) == 0 {
		t.Error("no progress was shown")
	}
	wantOnlyLocks(t, s)
	if all, err := image.List(s.ImagesDir); err != nil || len(all) > 0 {
		t.Errorf("List() = %v, %v", all, err)
	}
}

func TestBuildWithoutAnySource(t *testing.T) {
	needRoot(t)
	s := spec(t)
	write(t, s.AptDir+"/sources.list", "# nothing\n")
	_, err := image.Build(t.Context(), s)
	wantSentence(t, err, trove.KindUnavailable, "names no archive")
}

func TestBuildWithoutItsProgramsNamesThem(t *testing.T) {
	needRoot(t)
	t.Setenv("PATH", t.TempDir())
	_, err := image.Build(t.Context(), spec(t))
	wantSentence(t, err, trove.KindUnavailable, "mmdebstrap (package mmdebstrap)", "mkfs.xfs (package xfsprogs)")
}

func TestBuildRemovesWhatAKilledOneLeft(t *testing.T) {
	needRoot(t)
	s := spec(t)
	write(t, s.AptDir+"/sources.list", "# nothing\n")
	write(t, s.ImagesDir+"/.tmp-0c7f8a52-6a25-4a1d-9a1f-0d4c1f3c8e11/rootfs/etc/hosts", "x")
	write(t, s.CacheDir+"/roots/.tmp-123/rootfs/etc/hosts", "x")
	if _, err := image.Build(t.Context(), s); err == nil {
		t.Fatal("a build without an archive succeeded")
	}
	wantOnlyLocks(t, s)
}

// wantOnlyLocks checks that a failed build left nothing but its lock files and empty directories.
func wantOnlyLocks(t *testing.T, s image.BuildSpec) {
	t.Helper()
	for _, dir := range []string{s.ImagesDir, s.CacheDir} {
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".lock") || strings.Contains(path, "/.tmp-") {
				t.Errorf("left over: %s", path)
			}
			return err
		}))
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	id := trove.NewID()
	must(t, os.Mkdir(imagelayout.Dir(dir, id), 0o755))
	if err := image.Remove(dir, id); !trove.IsNotFound(err) {
		t.Errorf("Remove() of an image without a manifest = %v, want NotFound", err)
	}
	must(t, imagelayout.Write(dir, imagelayout.Manifest{ID: id, Datastore: "mariadb"}))
	if all, err := image.List(dir); err != nil || len(all) != 1 {
		t.Fatalf("List() = %v, %v", all, err)
	}
	must(t, image.Remove(dir, id))
	if _, err := os.Stat(imagelayout.Dir(dir, id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := image.Remove(dir, id); !trove.IsNotFound(err) {
		t.Errorf("second Remove() = %v, want NotFound", err)
	}
	if err := image.Remove(dir, "../"+id); !trove.IsNotFound(err) {
		t.Errorf("Remove() of a path = %v, want NotFound", err)
	}
}

func TestImageIDIsAValidID(t *testing.T) {
	id, err := image.ImageID(strings.Repeat("ff", 32))
	if err != nil || !trove.ValidID(id) {
		t.Errorf("id = %q, %v", id, err)
	}
	if diff := cmp.Diff("ffffffff-ffff-8fff-bfff-ffffffffffff", id); diff != "" {
		t.Error(diff)
	}
}
