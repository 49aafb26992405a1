package agentrelease_test

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/agentrelease"
)

func TestVersionsAreOrdered(t *testing.T) {
	ordered := []string{"devel", "0.0.1", "0.0.9", "0.0.10", "0.1.0", "0.9.9", "0.10.0", "1.0.0", "1.2.3", "10.0.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := agentrelease.VersionOf(a).Less(agentrelease.VersionOf(b)), i < j; got != want {
				t.Errorf("%s < %s is %v", a, b, got)
			}
		}
		if got := agentrelease.VersionOf(a).String(); got != a {
			t.Errorf("%s is written as %s", a, got)
		}
	}
	for _, bad := range []string{"", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.-3", "+1.2.3", "1.2.1000000", "v1.2.3", "0.0.0", "../..", "1.2.3\n", "1.2.٣"} {
		if v, err := agentrelease.ParseVersion(bad); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%q is %v, %v", bad, v, err)
		}
	}
}

// signer is a key pair in files, and a program.
type signer struct {
	dir     string
	key     ed25519.PrivateKey
	keys    agentrelease.Keys
	program string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	s := signer{dir: t.TempDir()}
	path := filepath.Join(s.dir, "release.key")
	if _, err := agentrelease.GenerateKey(path); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.key, err = agentrelease.ReadPrivateKey(path); err != nil {
		t.Fatal(err)
	}
	if s.keys, err = agentrelease.ReadKeys(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	s.program = filepath.Join(s.dir, "program")
	if err := os.WriteFile(s.program, []byte("#!/bin/sh\nexit 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s signer) manifest(t *testing.T, version string) agentrelease.Manifest {
	t.Helper()
	m, err := agentrelease.Describe(s.program, agentrelease.VersionOf(version), "linux", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	m.Created = time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	return m
}

// release makes a release's directory.
func (s signer) release(t *testing.T, version string) string {
	t.Helper()
	signed, err := agentrelease.Sign(s.key, s.manifest(t, version))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := agentrelease.WriteSigned(dir, signed); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, agentrelease.ProgramFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestASignedManifestIsBelieved(t *testing.T) {
	s := newSigner(t)
	want := s.manifest(t, "1.2.3")
	signed, err := agentrelease.Sign(s.key, want)
	if err != nil {
		t.Fatal(err)
	}
	other := newSigner(t)
	got, err := agentrelease.Verify(append(other.keys, s.keys...), signed) // while keys are changed there are two
	if err != nil || cmp.Diff(want, got) != "" {
		t.Error(err, cmp.Diff(want, got))
	}
}

func TestWhatIsNotSignedIsRefused(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	good, err := agentrelease.Sign(s.key, s.manifest(t, "1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	tampered := []byte(strings.Replace(string(good.Manifest), `"1.2.3"`, `"1.2.4"`, 1))
	foreign := []byte(`{"name":"invoice","version":"1.2.3"}`)
	for name, c := range map[string]struct {
		keys   agentrelease.Keys
		signed agentrelease.Signed
		says   string
	}{
		"no key":                    {nil, good, "no key"},
		"another's key":             {other.keys, good, "not by a key that is trusted"},
		"no signature":              {s.keys, agentrelease.Signed{Manifest: good.Manifest}, "is not signed"},
		"a short signature":         {s.keys, agentrelease.Signed{Manifest: good.Manifest, Signature: good.Signature[:63]}, "not by a key"},
		"a changed manifest":        {s.keys, agentrelease.Signed{Manifest: tampered, Signature: good.Signature}, "was changed"},
		"a space more":              {s.keys, agentrelease.Signed{Manifest: append([]byte(" "), good.Manifest...), Signature: good.Signature}, "was changed"},
		"something else, signed":    {s.keys, agentrelease.Signed{Manifest: foreign, Signature: ed25519.Sign(s.key, foreign)}, "is about"},
		"a manifest without an end": {s.keys, agentrelease.Signed{Manifest: make([]byte, 1<<20), Signature: good.Signature}, "more than"},
	} {
		m, err := agentrelease.Verify(c.keys, c.signed)
		if trove.KindOf(err) != trove.KindUnprocessable || !strings.Contains(trove.MessageOf(err), c.says) || m != (agentrelease.Manifest{}) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// TestOpenSSLCanSign holds the promise that no program of ours is needed where the key is.
func TestOpenSSLCanSign(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	data, err := json.Marshal(s.manifest(t, "2.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	key, manifest, sig := filepath.Join(dir, "key"), filepath.Join(dir, "manifest.json"), filepath.Join(dir, "manifest.sig")
	if err := os.WriteFile(manifest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "ed25519", "-out", key},
		{"pkey", "-in", key, "-pubout", "-out", key + ".pub"},
		{"pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", manifest, "-out", sig},
	} {
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v %s", args, err, out)
		}
	}
	keys, err := agentrelease.ReadKeys(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := agentrelease.ReadSigned(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := agentrelease.Verify(keys, signed); err != nil || m.Version != "2.0.0" {
		t.Error(m, err)
	}
}

func TestKeysAreKeptFromOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	if _, err := agentrelease.GenerateKey(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agentrelease.GenerateKey(path); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("a second key at the same place: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Error("the key was replaced", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := agentrelease.ReadPrivateKey(path); trove.KindOf(err) != trove.KindForbidden {
		t.Errorf("a key that the group may read: %v", err)
	}
	if _, err := agentrelease.ParseKeys(before); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("a private key where public ones belong: %v", err)
	}
}

func TestStoreTakesVerifiedReleasesOnly(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	store := agentrelease.Store{Dir: filepath.Join(t.TempDir(), "agents"), Keys: func() (agentrelease.Keys, error) { return s.keys, nil }}
	if _, _, err := store.Get(""); trove.KindOf(err) != trove.KindNotFound {
		t.Errorf("an empty store: %v", err)
	}
	for _, v := range []string{"1.10.0", "1.9.0"} {
		for range 2 { // again is fine
			if m, err := store.Add(s.release(t, v)); err != nil || m.Version != v {
				t.Fatal(m, err)
			}
		}
	}
	if m, signed, err := store.Get(""); err != nil || m.Version != "1.10.0" || len(signed.Signature) != 64 {
		t.Errorf("the newest is %s, %v", m.Version, err)
	}
	if _, err := store.Add(other.release(t, "1.11.0")); trove.KindOf(err) != trove.KindUnprocessable {
		t.Errorf("another's release: %v", err)
	}
	changed := s.release(t, "1.12.0")
	if err := os.WriteFile(filepath.Join(changed, agentrelease.ProgramFile), []byte("#!/bin/sh\nexit 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Add(changed); !strings.Contains(trove.MessageOf(err), "not the one that was signed") {
		t.Errorf("a changed program: %v", err)
	}
	if err := os.WriteFile(s.program, []byte("another program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Add(s.release(t, "1.9.0")); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("another program of the same version: %v", err)
	}
	for _, v := range []string{"../1.9.0", "1.9", "9.9.9"} {
		if _, _, err := store.Get(v); err == nil {
			t.Errorf("there is a release %q", v)
		}
	}
	all, err := store.List()
	if err != nil || len(all) != 2 || all[0].Version != "1.9.0" {
		t.Error(all, err)
	}
	// What was changed after it was added is not given out.
	if err := os.WriteFile(store.Program("1.10.0"), []byte("#!/bin/sh\nexit 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Get("1.10.0"); trove.KindOf(err) != trove.KindUnprocessable {
		t.Errorf("a program that was changed in the store: %v", err)
	}
}

// FuzzManifest holds the parser to its promise: no panic, and what is accepted can be a path and a limit.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"name":"trove-guestagent","version":"1.2.3","os":"linux","arch":"amd64","size":1,"sha256":"` + strings.Repeat("0a", 32) + `"}`))
	f.Add([]byte(`{"name":"trove-guestagent","version":"../../etc","size":-1}`))
	f.Add([]byte(`{}{}`))
	f.Add([]byte(`{"version":"1.2.3","new":{"a":[1]}} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := agentrelease.Parse(data)
		if err != nil {
			if trove.KindOf(err) != trove.KindUnprocessable {
				t.Errorf("%v has the kind %v", err, trove.KindOf(err))
			}
			return
		}
		if m.Name != agentrelease.Name || m.Size <= 0 || m.Size > agentrelease.MaxProgram || len(m.SHA256) != 64 || strings.ContainsAny(m.Version, "/\\ ") ||
			m.Ordinal().String() != m.Version {
			t.Errorf("got through: %+v", m)
		}
	})
}

// FuzzKeys: no panic, and an accepted file has a usable key.
func FuzzKeys(f *testing.F) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := agentrelease.EncodeKeys(pub, pub)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := agentrelease.ParseKeys(data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if len(k) != ed25519.PublicKeySize {
				t.Errorf("a key of %d bytes", len(k))
			}
		}
	})
}
