package guestfiles_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// TestGiven: what was noted comes back with what was added, is gone when it is forgotten, and is not guessed when it cannot be read.
func TestGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "given.json")
	g := guestfiles.Given(path)
	want := func(want map[string]string) {
		t.Helper()
		if got, err := g.Read(); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want(nil)
	must(g.Add(map[string]string{"a": "1"}))
	must(g.Add(map[string]string{"a": "2", "b": "3"}))
	want(map[string]string{"a": "2", "b": "3"})
	must(g.Write(map[string]string{"c": "4"}))
	want(map[string]string{"c": "4"})
	must(g.Forget())
	must(g.Forget())
	want(nil)
	must(os.WriteFile(path, []byte("{"), 0o600))
	if _, err := g.Read(); err == nil {
		t.Error("a damaged file was read")
	}
	if err := g.Add(map[string]string{"a": "1"}); err == nil {
		t.Error("something was added to a damaged file")
	}
}
