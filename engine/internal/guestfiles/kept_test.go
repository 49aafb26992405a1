package guestfiles_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// TestKept: what is kept comes back as it was, and nobody but the agent reads it.
func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "settings.json")
	var got guestfiles.KeptTLS
	if err := guestfiles.ReadKept(path, &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before anything was kept: %v", err)
	}
	want := guestfiles.KeptTLS{Mode: engine.TLSMutual, Cert: []byte("c"), Key: []byte("k"), CA: []byte("a")}
	if err := guestfiles.WriteKept(path, want); err != nil {
		t.Fatal(err)
	}
	if err := guestfiles.ReadKept(path, &got); err != nil || !got.Equal(want) || got.Equal(guestfiles.KeptTLS{}) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestWantedTLS(t *testing.T) {
	if got, err := guestfiles.WantedTLS(engine.TLSChange{Off: true}); err != nil || !got.Equal(guestfiles.KeptTLS{Off: true}) {
		t.Errorf("off: %+v, %v", got, err)
	}
	if _, err := guestfiles.WantedTLS(engine.TLSChange{Mode: engine.TLSMutual}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("mtls without authorities: %v", err)
	}
}
