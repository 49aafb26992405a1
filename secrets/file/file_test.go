package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/secretstest"
)

func open(t testing.TB, path string) *file.Sealer {
	t.Helper()
	s, err := file.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	secretstest.Run(t, func(t *testing.T) secrets.Sealer { return open(t, filepath.Join(t.TempDir(), "master.key")) })
}

func TestKeyIsMadeOnceAndOnlyForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "master.key")
	text, err := open(t, path).Seal(t.Context(), "p", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, path).Open(t.Context(), "p", text); err != nil || got.Reveal() != "secret" {
		t.Fatalf("after a restart: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Open(path); err == nil || !strings.Contains(err.Error(), "only its owner") {
		t.Fatalf("a key that the group can read: %v", err)
	}
}

func TestANewKeyAboveTheOldOneSealsAndBothOpen(t *testing.T) {
	dir := t.TempDir()
	oldPath, newPath := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	oldText, err := open(t, oldPath).Seal(t.Context(), "p", "old secret")
	if err != nil {
		t.Fatal(err)
	}
	fresh := open(t, newPath)
	if _, err := fresh.Open(t.Context(), "p", oldText); err == nil || !trove.IsPermanent(err) {
		t.Fatalf("opened without its key: %v", err)
	}
	var both []byte
	for _, p := range []string{newPath, oldPath} {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
	}
	if err := os.WriteFile(oldPath, both, 0o600); err != nil {
		t.Fatal(err)
	}
	rotated := open(t, oldPath)
	if got, err := rotated.Open(t.Context(), "p", oldText); err != nil || got.Reveal() != "old secret" {
		t.Fatalf("the old key does not open after the rotation: %v", err)
	}
	text, err := rotated.Seal(t.Context(), "p", "new secret")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fresh.Open(t.Context(), "p", text); err != nil || got.Reveal() != "new secret" {
		t.Fatalf("the new key did not seal: %v", err)
	}
}

func TestOpenRefusesKeyFilesThatAreNone(t *testing.T) {
	const good = "0a0b0c0d AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for name, text := range map[string]string{
		"empty": "", "no key": "0a0b0c0d", "short key": "0a0b0c0d AAAA", "no base64": "0a0b0c0d !!!!", "bad id": "xyz AAAA",
		"an id twice": good + "\n" + good,
	} {
		path := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Open(path); err == nil || !trove.IsPermanent(err) {
			t.Errorf("%s: %v, want a permanent error", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := open(f, filepath.Join(f.TempDir(), "master.key"))
	text, err := s.Seal(f.Context(), "p", "secret")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("p", text)
	f.Add("q", text)
	f.Add("p", "v1.00000000.AAAA")
	f.Fuzz(func(t *testing.T, purpose, sealed string) {
		got, err := s.Open(t.Context(), purpose, sealed)
		if err == nil && (purpose != "p" || got.Reveal() != "secret") {
			t.Errorf("Open(%q, %q) gave %q", purpose, sealed, got.Reveal())
		}
	})
}
