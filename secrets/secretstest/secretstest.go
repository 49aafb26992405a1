// Package secretstest is the suite that every driver of secrets must pass.
package secretstest

import (
	"context"
	"strings"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/secrets"
)

// Run runs the suite. New is called once per test.
func Run(t *testing.T, newSealer func(t *testing.T) secrets.Sealer) {
	t.Helper()
	t.Run("what was sealed opens again", func(t *testing.T) { testRoundTrip(t, newSealer(t)) })
	t.Run("the text does not show the secret and differs each time", func(t *testing.T) { testOpaque(t, newSealer(t)) })
	t.Run("another purpose does not open it", func(t *testing.T) { testPurpose(t, newSealer(t)) })
	t.Run("a changed text does not open", func(t *testing.T) { testDamage(t, newSealer(t)) })
	t.Run("several goroutines", func(t *testing.T) { testConcurrent(t, newSealer(t)) })
}

func seal(t *testing.T, s secrets.Sealer, purpose, plain string) string {
	t.Helper()
	text, err := s.Seal(t.Context(), purpose, trove.Secret(plain))
	if err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return text
}

func opens(ctx context.Context, s secrets.Sealer, purpose, text, want string) bool {
	got, err := s.Open(ctx, purpose, text)
	return err == nil && got.Reveal() == want
}

func refuses(t *testing.T, s secrets.Sealer, purpose, text string) {
	t.Helper()
	got, err := s.Open(t.Context(), purpose, text)
	if err == nil || got != "" {
		t.Errorf("Open(%q, %.40q) gave %d characters and %v", purpose, text, len(got), err)
	} else if !trove.IsPermanent(err) {
		t.Errorf("Open(%q, %.40q): %v is not permanent", purpose, text, err)
	}
}

func testRoundTrip(t *testing.T, s secrets.Sealer) {
	for _, plain := range []string{"secret", "", "ünï\x00cödé\n", strings.Repeat("x", 20000)} {
		if !opens(t.Context(), s, "instance/root", seal(t, s, "instance/root", plain), plain) {
			t.Errorf("%.20q came back as something else", plain)
		}
	}
}

func testOpaque(t *testing.T, s secrets.Sealer) {
	a, b := seal(t, s, "p", "correct horse battery"), seal(t, s, "p", "correct horse battery")
	if a == b || strings.Contains(a, "horse") {
		t.Errorf("sealed as %s and %s", a, b)
	}
}

func testPurpose(t *testing.T, s secrets.Sealer) {
	text := seal(t, s, "a/b", "secret")
	for _, other := range []string{"", "a", "a/bc", "A/B", "a/b\x00"} {
		refuses(t, s, other, text)
	}
}

func testDamage(t *testing.T, s secrets.Sealer) {
	text := seal(t, s, "p", "secret")
	for i := range len(text) - 1 { // the last character may hold bits that mean nothing
		changed := []byte(text)
		changed[i] ^= 1
		refuses(t, s, "p", string(changed))
	}
	for _, bad := range []string{"", ".", "..", "...", text[:len(text)-8], text + "AAAA", "secret"} {
		refuses(t, s, "p", bad)
	}
}

func testConcurrent(t *testing.T, s secrets.Sealer) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				text, err := s.Seal(t.Context(), "p", "secret")
				if err != nil || !opens(t.Context(), s, "p", text, "secret") {
					t.Errorf("Seal and Open: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
