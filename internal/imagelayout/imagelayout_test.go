package imagelayout_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

func write(t *testing.T, dir string) string {
	t.Helper()
	m := imagelayout.Manifest{ID: trove.NewID(), Datastore: "mariadb", Version: "10.11"}
	if err := os.MkdirAll(imagelayout.Dir(dir, m.ID), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := imagelayout.Write(dir, m); err != nil {
		t.Fatal(err)
	}
	return m.ID
}

func TestListIsInOrderOfWritingAndSkipsHalfMadeImages(t *testing.T) {
	dir := t.TempDir()
	if all, err := imagelayout.List(filepath.Join(dir, "none")); err != nil || len(all) != 0 {
		t.Fatalf("List of nothing = %v, %v", all, err)
	}
	first, second := write(t, dir), write(t, dir)
	now := time.Now()
	if err := imagelayout.Touch(dir, second, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(imagelayout.Dir(dir, trove.NewID()), 0o755); err != nil {
		t.Fatal(err)
	}
	all, err := imagelayout.List(dir)
	if err != nil || len(all) != 2 || all[0].ID != second || all[1].ID != first {
		t.Fatalf("List = %v, %v, want %s before %s", all, err, second, first)
	}
}

func TestReadOfWhatIsNoImageIsNotFound(t *testing.T) {
	for _, id := range []string{trove.NewID(), "../etc", ""} {
		if _, err := imagelayout.Read(t.TempDir(), id); !trove.IsNotFound(err) {
			t.Errorf("Read(%q) = %v", id, err)
		}
	}
}
