package file_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
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

// TestRotation replaces the master key while others seal and open, as a service does that goes on meanwhile.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	service := open(t, path)
	old, err := service.Seal(t.Context(), "p", "secret")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	made, err := file.Rotate(path, now)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := service.Seal(t.Context(), "p", "secret") // the same Sealer
	if err != nil {
		t.Fatal(err)
	}
	if ids := keyring.KeysIn(fresh); len(ids) != 1 || ids[0] != made.ID {
		t.Errorf("sealed under %v, want %s", ids, made.ID)
	}
	text := `{"sealed":"` + old + `","name":"sealed2.0a0b0c0d.x.y"}`
	again, changed := service.Rewrap(text)
	if !changed || strings.Contains(again, old) || !strings.Contains(again, made.ID) || !strings.Contains(again, "sealed2.0a0b0c0d.x.y") {
		t.Fatalf("sealed anew (%v): %s", changed, again)
	}
	if _, changed := service.Rewrap(again); changed {
		t.Error("it was sealed anew twice")
	}
	keys, err := file.Keys(path)
	if err != nil || len(keys) != 2 || !keys[0].Made.Equal(now) {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	if err := file.Drop(path, keys[0].ID, keys[1].ID); err != nil { // the one that seals stays
		t.Fatal(err)
	}
	renewed := strings.TrimSuffix(strings.TrimPrefix(again, `{"sealed":"`), `","name":"sealed2.0a0b0c0d.x.y"}`)
	for name, tt := range map[string]struct {
		text  string
		opens bool
	}{"old": {old, false}, "sealed anew": {renewed, true}, "new": {fresh, true}} {
		got, err := service.Open(t.Context(), "p", tt.text)
		if (err == nil) != tt.opens || tt.opens && got.Reveal() != "secret" {
			t.Errorf("%s without the old key: %v, want opened %v", name, err, tt.opens)
		}
	}
	if _, err := service.Open(t.Context(), "q", renewed); err == nil {
		t.Error("what was sealed anew opens for another purpose")
	}
}

// TestTheNextKeyIsPreparedForOtherHosts has two hosts with a file each, which is copied by hand: at no moment does one seal what the other cannot open.
func TestTheNextKeyIsPreparedForOtherHosts(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "master.key"), filepath.Join(t.TempDir(), "master.key")
	first := open(t, a)
	copied := func() {
		t.Helper()
		data, err := os.ReadFile(a)
		if err == nil {
			err = os.WriteFile(b+".new", data, 0o600)
		}
		if err == nil {
			err = os.Rename(b+".new", b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copied()
	second := open(t, b)
	under := func(when string) (id string) {
		t.Helper()
		for _, pair := range [][2]*file.Sealer{{first, second}, {second, first}} {
			text, err := pair[0].Seal(t.Context(), "p", "secret")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := pair[1].Open(t.Context(), "p", text); err != nil || got.Reveal() != "secret" {
				t.Errorf("%s: one host cannot open what the other has sealed: %v", when, err)
			}
			if pair[0] == first {
				id = keyring.KeysIn(text)[0]
			}
		}
		return id
	}
	old := under("before")
	now := time.Now()
	next, err := file.Prepare(a, now)
	if err != nil || under("prepared") != old {
		t.Fatalf("prepared %v, %v", next, err)
	}
	if again, err := file.Prepare(a, now.Add(time.Minute)); err != nil || again.ID != next.ID {
		t.Errorf("prepared twice: %v, %v", again, err)
	}
	copied()
	under("copied")
	made, err := file.Rotate(a, now.Add(time.Hour))
	if err != nil || made.ID != next.ID || !made.Made.After(now.Add(time.Minute)) || under("rotated on one host") != next.ID {
		t.Errorf("rotated to %v, %v", made, err)
	}
	copied()
	if under("copied again") != next.ID {
		t.Error("the next key does not seal")
	}
	if keys, err := file.Keys(a); err != nil || len(keys) != 2 {
		t.Errorf("keys %v, %v", keys, err)
	} else if _, there := keyring.Next(keys); there {
		t.Error("there is a next key after the rotation")
	}
}

// TestTheFirstVersionsTextsAreSealedAnew has a text as the first version sealed it, with the key that it was sealed under.
func TestTheFirstVersionsTextsAreSealedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	key := make([]byte, chacha20poly1305.KeySize)
	if err := os.WriteFile(path, []byte("0a0b0c0d "+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	sealed := aead.Seal(nonce, nonce, []byte("secret of a user"), []byte("trove secret v1\x000a0b0c0d\x00p"))
	text := "v1.0a0b0c0d." + base64.RawURLEncoding.EncodeToString(sealed)
	s := open(t, path)
	if got, err := s.Open(t.Context(), "p", text); err != nil || got.Reveal() != "secret of a user" {
		t.Fatalf("a text of the first version: %v", err)
	}
	if _, changed := s.Rewrap(text, "another purpose"); changed {
		t.Error("it was sealed anew for a purpose that is not its own")
	}
	again, changed := s.Rewrap(text, "another purpose", "p")
	if got, err := s.Open(t.Context(), "p", again); !changed || err != nil || got.Reveal() != "secret of a user" {
		t.Errorf("sealed anew %v: %v", changed, err)
	}
}
