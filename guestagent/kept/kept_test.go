package kept_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/guestagent/kept"
)

// volume is a data volume with two directories of an engine, and the agent's own.
func volume(t *testing.T) kept.Place {
	t.Helper()
	dir := t.TempDir()
	p := kept.Place{Data: dir, State: filepath.Join(dir, "trove"), Driver: filepath.Join(dir, "trove", "fake")}
	for name, text := range map[string]string{
		"db/rows": "one", "db/sub/more": "two", "db-log/error.log": "line\n", "trove/journal": "own", "trove/fake/settings": "old",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	if err := os.Symlink("rows", filepath.Join(dir, "db/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "db/sub"), 0o500); err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// content reads what is on the volume besides the copy, with modes, and owners where the test may change them.
func content(t *testing.T, p kept.Place) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(p.Data, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(p.Data, path)
		if name == kept.Dir {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st, _ := info.Sys().(*syscall.Stat_t)
		text := info.Mode().String()
		if e.Type() == fs.ModeSymlink {
			to, _ := os.Readlink(path)
			text += " -> " + to
		} else if e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		if os.Geteuid() == 0 {
			text += " " + time.Duration(st.Uid).String()
		}
		all[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func keep(t *testing.T, p kept.Place) {
	t.Helper()
	for range 2 { // the second time it is there
		if err := p.Keep(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if whole, err := p.Kept(); err != nil || !whole {
		t.Fatalf("Kept() = %v, %v", whole, err)
	}
}

// spoil does what an upgrade does to the original.
func spoil(t *testing.T, p kept.Place) {
	t.Helper()
	if err := p.Touch(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.Data, "db/rows"), "spoilt")
	write(t, filepath.Join(p.Data, "db/new"), "x")
	write(t, filepath.Join(p.Data, "db2/other"), "x")
	write(t, filepath.Join(p.Driver, "settings"), "new")
}

func wantGone(t *testing.T, p kept.Place) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(p.Data, kept.Dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy is still there: %v", err)
	}
}

func TestWhatAnUpgradeSpoiltComesBack(t *testing.T) {
	p := volume(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(p.Data, "db/rows"), 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	want := content(t, p)
	keep(t, p)
	spoil(t, p)
	if restored, err := p.Restore(); err != nil || !restored {
		t.Fatalf("Restore() = %v, %v", restored, err)
	}
	if diff := cmp.Diff(want, content(t, p)); diff != "" {
		t.Errorf("not as before (-before +after):\n%s", diff)
	}
	wantGone(t, p)
	if restored, err := p.Restore(); err != nil || restored {
		t.Errorf("Restore() without a copy = %v, %v", restored, err)
	}
}

// TestARestoreThatWasCutOffGoesOn cuts it off after each of its renames: a name of the copy that is gone was put in its place.
func TestARestoreThatWasCutOffGoesOn(t *testing.T) {
	for _, moved := range [][]string{{"db"}, {"db-log"}, {"db", "db-log"}} {
		p := volume(t)
		want := content(t, p)
		keep(t, p)
		spoil(t, p)
		for _, name := range moved {
			if err := os.RemoveAll(filepath.Join(p.Data, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(p.Data, kept.Dir, "data", name), filepath.Join(p.Data, name)); err != nil {
				t.Fatal(err)
			}
		}
		if moved[0] == "db-log" { // in the middle of a removal
			if err := os.Remove(filepath.Join(p.Data, "db/rows")); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Restore(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, content(t, p)); diff != "" {
			t.Errorf("moved %v: not as before (-before +after):\n%s", moved, diff)
		}
	}
}

func TestAnOriginalThatNobodyTouchedStays(t *testing.T) {
	p := volume(t)
	keep(t, p)
	write(t, filepath.Join(p.Data, "db/rows"), "later")
	want := content(t, p)
	if restored, err := p.Restore(); err != nil || restored {
		t.Fatalf("Restore() = %v, %v", restored, err)
	}
	if diff := cmp.Diff(want, content(t, p)); diff != "" {
		t.Errorf("it was changed:\n%s", diff)
	}
	wantGone(t, p)
}

func TestACopyThatWasCutOffIsNone(t *testing.T) {
	p := volume(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := p.Keep(ctx, func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Keep() that was cut off = %v", err)
	}
	if whole, err := p.Kept(); err != nil || whole {
		t.Errorf("Kept() = %v, %v after a copy that was cut off", whole, err)
	}
	keep(t, p) // from the beginning
	for range 2 {
		if err := p.Drop(); err != nil {
			t.Fatal(err)
		}
	}
	wantGone(t, p)
}

// TestHolesAreNotFilled: InnoDB punches holes, and a copy with them filled may not fit.
func TestHolesAreNotFilled(t *testing.T) {
	p := volume(t)
	path := filepath.Join(p.Data, "db/sparse")
	write(t, path, "begin")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end"), 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	size, err := p.Measure(t.Context())
	if err != nil || size.Bytes > 1<<20 || size.Free <= 0 {
		t.Fatalf("Measure() = %+v, %v", size, err)
	}
	keep(t, p)
	info, err := os.Stat(filepath.Join(p.Data, kept.Dir, "data/db/sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := info.Sys().(*syscall.Stat_t); info.Size() != 64<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy has %d bytes in %d blocks", info.Size(), st.Blocks)
	}
}

func TestMissing(t *testing.T) {
	for _, c := range []struct {
		size kept.Size
		want int64
	}{
		{kept.Size{Bytes: 1000 << 20, Free: 2000 << 20}, 0},
		{kept.Size{Bytes: 1000 << 20, Free: 1000 << 20}, 114 << 20},
		{kept.Size{Bytes: 1000 << 20, Free: 1000 << 20, Reflink: true}, 0},
		{kept.Size{Bytes: 1000 << 20, Free: 100 << 20, Reflink: true}, 64 << 20},
	} {
		if got := c.size.Missing(); got != c.want {
			t.Errorf("%+v: %d bytes are missing, want %d", c.size, got, c.want)
		}
	}
}
