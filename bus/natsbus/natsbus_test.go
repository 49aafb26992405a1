package natsbus_test

import (
	"go/build"
	"path/filepath"
	"strings"
	"testing"
)

// The guest's binary links this package; the broker would double its size.
func TestTheClientDoesNotLinkTheBroker(t *testing.T) {
	seen := map[string]bool{}
	var visit func(path, dir string)
	visit = func(path, dir string) {
		if seen[path] {
			return
		}
		seen[path] = true
		p, err := build.Import(path, dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			if strings.Contains(imported, "nats-server") || strings.HasSuffix(imported, "natsbus/server") {
				t.Errorf("%s imports %s", path, imported)
			}
			if strings.HasPrefix(imported, "github.com/trove-dbaas/trove") {
				visit(imported, dir)
			}
		}
	}
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	visit("github.com/trove-dbaas/trove/bus/natsbus", dir)
	if len(seen) < 4 {
		t.Errorf("looked at %d packages only", len(seen))
	}
}
