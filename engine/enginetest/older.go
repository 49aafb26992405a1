package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/engine"
)

// previousRoots is where tests/enginematrix puts the root file systems of older versions beside the one that a test runs in, by version.
const previousRoots = "/run/previous"

// OlderProgram says how programs of an older version are found in its root file system: as patterns below it.
type OlderProgram struct {
	Programs []string // what is run
	Beside   []string // what they read, by way of the layout's root
}

// RunUpgrades takes data over from each older version that is there, with the part of the suite that is for that. The version under test is that of the
// machine's own programs; newSetup is one for it. Where there is no older version, there is nothing to be done.
func RunUpgrades(t *testing.T, version string, of OlderProgram, newSetup func(t *testing.T) Setup) {
	t.Helper()
	older, err := os.ReadDir(previousRoots)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, o := range older {
		t.Run(o.Name(), func(t *testing.T) {
			s := newSetup(t)
			s.Fill = nil // which would be the new version's
			s.Newer = &Newer{Engine: s.Engine, Root: s.Layout.Root, Name: version}
			s.Layout.Root = of.root(t, filepath.Join(previousRoots, o.Name()))
			programs, _, err := s.Engine.(engine.Upgrader).Versions(t.Context(), s.Layout)
			must(t, err)
			if !bytes.HasPrefix([]byte(programs), []byte(o.Name()+".")) {
				t.Fatalf("the programs of %s say that they are %s", o.Name(), programs)
			}
			upgrade(t, s)
		})
	}
}

// root makes a root with the older programs: scripts that run them by the loader of their own root with its libraries, which needs no right to change the root.
func (of OlderProgram) root(t *testing.T, root string) string {
	t.Helper()
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*/ld-linux*.so.*"))
	if err != nil || len(loaders) == 0 {
		t.Fatalf("the root %s has no loader: %v", root, err)
	}
	dir, err := os.MkdirTemp("", "old") //nolint:usetesting // other accounts run what is in it
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	place := func(pattern string, put func(from, to string)) {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("the root %s has no %s: %v", root, pattern, err)
		}
		for _, from := range found {
			name, err := filepath.Rel(root, from)
			must(t, err)
			to := filepath.Join(dir, name)
			must(t, os.MkdirAll(filepath.Dir(to), 0o755))
			put(from, to)
		}
	}
	for _, pattern := range of.Programs {
		place(pattern, func(from, to string) {
			data, err := os.ReadFile(from)
			must(t, err)
			if bytes.HasPrefix(data, []byte("#!")) {
				must(t, os.WriteFile(to, data, 0o755))
				return
			}
			script := fmt.Sprintf("#!/bin/sh\nexec %s --argv0 \"$0\" --library-path %s %s \"$@\"\n", loaders[0], filepath.Dir(loaders[0]), from)
			must(t, os.WriteFile(to, []byte(script), 0o755))
		})
	}
	for _, pattern := range of.Beside {
		place(pattern, func(from, to string) { must(t, os.Symlink(from, to)) })
	}
	return dir
}
