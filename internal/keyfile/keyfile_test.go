package keyfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/trove-dbaas/trove/internal/keyfile"
)

func TestLoadOrMakeMakesOneKeyForAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "k")
	got := make([]string, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			data, err := keyfile.LoadOrMake(path, func() ([]byte, error) { return fmt.Appendf(nil, "key %d", i), nil })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(data)
		})
	}
	wg.Wait()
	for _, k := range got {
		if k == "" || k != got[0] {
			t.Fatalf("keys differ: %q", got)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Fatalf("left over: %v, %v", entries, err)
	}
}

func TestLoadOrMakeRefusesAFileThatOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := func() ([]byte, error) { return nil, errors.New("must not be called") }
	if data, err := keyfile.LoadOrMake(path, none); err != nil || string(data) != "key" {
		t.Fatalf("mode 0600: %q, %v", data, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.LoadOrMake(path, none); err == nil {
			t.Errorf("mode %v was accepted", mode)
		}
	}
}
