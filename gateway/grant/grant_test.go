package grant_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

const instance = "6a1c0000-0000-4000-8000-000000000001"

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string, c clock.Clock) *grant.Keyring {
	t.Helper()
	k, err := grant.Open(t.Context(), keyfile.Dir(filepath.Dir(path)), c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func example() grant.Grant {
	return grant.Grant{
		Instance: instance, Key: "UABC", Container: backupstore.Container{Project: "p", Name: "database_logs"}, Method: http.MethodPut,
		Prefix: instance + "/mariadb-error/", MaxBytes: 100, Expires: start.Add(time.Hour), Operation: "op",
	}
}

func sign(t testing.TB, k *grant.Keyring, g grant.Grant) string {
	t.Helper()
	token, err := k.Sign(g)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func TestTokenSaysWhatWasSigned(t *testing.T) {
	now := clock.NewManual(start)
	path := filepath.Join(t.TempDir(), "grants.json")
	k := open(t, path, now)
	token := sign(t, k, example())
	got, err := open(t, path, now).Verify(token) // another process
	if diff := cmp.Diff(example(), got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of keys: %v, %v", info.Mode(), err)
	}
	now.Add(time.Hour)
	if got, err := k.Verify(token); !errors.Is(err, grant.ErrExpired) || got.Instance != instance {
		t.Errorf("an hour later: %+v, %v", got, err)
	}
}

func TestEveryChangeIsNoticed(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "grants.json"), clock.NewManual(start))
	token := sign(t, k, example())
	for i := range len(token) {
		for _, c := range []string{"A", "z", "."} {
			changed := token[:i] + c + token[i+1:]
			if changed == token || sameBytes(changed, token) {
				continue
			}
			if _, err := k.Verify(changed); !errors.Is(err, grant.ErrToken) || trove.KindOf(err) != trove.KindUnauthorized {
				t.Fatalf("changed at %d: %v", i, err)
			}
		}
	}
	other := open(t, filepath.Join(t.TempDir(), "grants.json"), clock.NewManual(start))
	if _, err := other.Verify(token); !errors.Is(err, grant.ErrToken) {
		t.Errorf("another deployment: %v", err)
	}
}

// sameBytes says whether two tokens differ only in the bits of the last letter that base64 does not use.
func sameBytes(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	if len(x) != 4 || strings.Join(x[:3], ".") != strings.Join(y[:3], ".") {
		return false
	}
	p, err := base64.RawURLEncoding.DecodeString(x[3])
	q, err2 := base64.RawURLEncoding.DecodeString(y[3])
	return err == nil && err2 == nil && string(p) == string(q)
}

func TestGrantsThatNoneMayHave(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "grants.json"), clock.NewManual(start))
	for name, change := range map[string]func(*grant.Grant){
		"instance":  func(g *grant.Grant) { g.Instance = "*" },
		"key":       func(g *grant.Grant) { g.Key = "" },
		"method":    func(g *grant.Grant) { g.Method = http.MethodDelete },
		"prefix":    func(g *grant.Grant) { g.Prefix = "" },
		"open end":  func(g *grant.Grant) { g.Prefix = instance },
		"up":        func(g *grant.Grant) { g.Prefix = "../" },
		"root":      func(g *grant.Grant) { g.Prefix = "/" },
		"container": func(g *grant.Grant) { g.Container.Name = "../x" },
		"no limit":  func(g *grant.Grant) { g.MaxBytes = 0 },
		"over":      func(g *grant.Grant) { g.Expires = start },
		"too long":  func(g *grant.Grant) { g.Expires = start.Add(grant.MaxLife + time.Minute) },
	} {
		g := example()
		change(&g)
		if _, err := k.Sign(g); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCovers(t *testing.T) {
	g := grant.Grant{Prefix: "logs/a/"}
	for name, want := range map[string]bool{"logs/a/1": true, "logs/a/1/2": true, "logs/a/": false, "logs/a": false, "logs/ab": false, "logs/ab/1": false, "a/logs/a/1": false, "": false} {
		if g.Covers(name) != want {
			t.Errorf("%q: %v, want %v", name, !want, want)
		}
	}
}

// TestKeysAreReplaced lets a month go by, with a signer in another process.
func TestKeysAreReplaced(t *testing.T) {
	now := clock.NewManual(start)
	path := filepath.Join(t.TempDir(), "grants.json")
	gateway, api := open(t, path, now), open(t, path, now)
	renew := func(force, want bool) {
		t.Helper()
		if made, err := gateway.Renew(t.Context(), force); made != want || err != nil {
			t.Errorf("renewed: %v, %v; want %v", made, err, want)
		}
	}
	renew(false, false)
	now.Add(30 * 24 * time.Hour)
	g := example()
	g.Expires = now.Now().Add(grant.MaxLife)
	old := sign(t, api, g)
	renew(false, true)
	renew(false, false)
	now.Add(2 * time.Second)
	young := sign(t, api, g)
	if strings.Split(old, ".")[1] == strings.Split(young, ".")[1] {
		t.Error("the old key signs on")
	}
	for what, token := range map[string]string{"old": old, "young": young} {
		for _, k := range []*grant.Keyring{gateway, api} {
			if _, err := k.Verify(token); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	now.Add(grant.MaxLife + time.Minute)
	renew(false, false) // drops the first
	if _, err := gateway.Verify(old); !errors.Is(err, grant.ErrToken) {
		t.Errorf("the old key is still known: %v", err)
	}
	renew(true, true)
}

func FuzzVerify(f *testing.F) {
	k := open(f, filepath.Join(f.TempDir(), "grants.json"), clock.NewManual(start))
	good := sign(f, k, example())
	f.Add(good)
	f.Add(good + ".")
	f.Add("tg1...")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := k.Verify(token)
		if err == nil && !sameBytes(token, good) {
			t.Errorf("%q is taken for %+v", token, got)
		}
	})
}
