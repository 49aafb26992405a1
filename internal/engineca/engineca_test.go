package engineca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engineca"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

const (
	instance = "0c7f8a52-6a25-4a1d-9a1f-0d4c1f3c8e11"
	caLife   = 1000 * time.Hour
	life     = 90 * time.Hour
)

// world is a store with several processes that use it.
type world struct {
	store  *sqlstore.Store
	sealer *secretsfile.Sealer
	now    time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "store.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	sealer, err := secretsfile.Open(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &world{store: s, sealer: sealer, now: time.Now()}
}

type fixedClock struct {
	clock.System

	now time.Time
}

func (c fixedClock) Now() time.Time { return c.now }

// process is a controller that starts now.
func (w *world) process(after time.Duration) *engineca.CA {
	return engineca.New(engineca.Config{
		Store: w.store, Sealer: w.sealer, Clock: fixedClock{now: w.now.Add(after)}, Log: slog.New(slog.DiscardHandler), CALife: caLife, Life: life,
	})
}

func request(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"bank.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func sign(t *testing.T, c *engineca.CA) engineca.Signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := c.Sign(t.Context(), engineca.Request{
		CSR: request(t, key), Instance: instance, Hostname: "shop.example", Addresses: []trove.Address{{Address: "10.0.0.9"}, {Address: "fd00::9"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func bundle(t *testing.T, c *engineca.CA) string {
	t.Helper()
	b, err := c.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// believe verifies what a server shows as a client does that has the bundle.
func believe(t *testing.T, signed engineca.Signed, bundle, name string, at time.Time) error {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	block, rest := pem.Decode(signed.Chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	between.AppendCertsFromPEM(rest)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}

func TestSignsForWhatTheStoreKnows(t *testing.T) {
	w := newWorld(t)
	c := w.process(0)
	signed := sign(t, c)
	known := bundle(t, w.process(0)) // another process reads the same
	for _, name := range []string{instance, "shop.example", "10.0.0.9", "fd00::9"} {
		if err := believe(t, signed, known, name, w.now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if believe(t, signed, known, "bank.example", w.now) == nil {
		t.Error("the certificate names what only the request named")
	}
	if believe(t, signed, known, instance, w.now.Add(life+time.Minute)) == nil || !signed.Ends.Equal(w.now.Add(life)) && signed.Ends.Sub(w.now.Add(life)).Abs() > time.Second {
		t.Errorf("it ends at %v", signed.Ends)
	}
	if before := c.RenewBefore(); !before.Equal(w.now.Add(life / 3)) {
		t.Errorf("certificates that end before %v are renewed", before)
	}
}

func TestRefusesRequests(t *testing.T) {
	w := newWorld(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("this Go makes no weak keys any more: %v", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	broken, _ := pem.Decode(request(t, key))
	broken.Bytes[len(broken.Bytes)-1] ^= 1
	for what, csr := range map[string][]byte{
		"nothing": nil, "another thing": []byte("-----BEGIN X-----\n-----END X-----\n"), "a weak key": request(t, weak),
		"a broken signature": pem.EncodeToMemory(broken),
	} {
		if _, err := w.process(0).Sign(t.Context(), engineca.Request{CSR: csr, Instance: instance}); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestKeyIsSealed looks for the key in the store.
func TestKeyIsSealed(t *testing.T) {
	w := newWorld(t)
	sign(t, w.process(0))
	all, err := w.store.Authorities(t.Context())
	if err != nil || len(all) != 1 || !strings.Contains(all[0].SealedKey, keyring.Marker) {
		t.Fatalf("%+v, %v", all, err)
	}
	_, err = w.sealer.Open(t.Context(), "engine-authority:another", all[0].SealedKey)
	if err == nil {
		t.Error("the key opens for another authority")
	}
}

func TestProcessesThatStartTogetherAreOneAuthority(t *testing.T) {
	w := newWorld(t)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = w.process(0).Current(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("authorities: %q", ids)
		}
	}
}

// TestAuthorityIsReplacedInTime: nobody who knew one of the two is shut out before the old one ends.
func TestAuthorityIsReplacedInTime(t *testing.T) {
	w := newWorld(t)
	early := w.process(0)
	first := sign(t, early)
	old := bundle(t, early)
	late := w.process(caLife * 4 / 5)
	second := sign(t, late)
	now := w.now.Add(caLife * 4 / 5)
	if second.AuthorityID == first.AuthorityID {
		t.Fatal("the authority was not replaced")
	}
	both := bundle(t, late)
	for what, err := range map[string]error{
		"a client with the old bundle":                believe(t, second, old, instance, now),
		"a client with the new one":                   believe(t, second, both, instance, now),
		"a database that has not changed yet":         believe(t, first, both, instance, w.now.Add(time.Hour)),
		"a client with the new authority alone":       believe(t, second, newest(both), instance, now),
		"a process that had the old one goes with it": func() error { _, err := early.Current(t.Context()); return err }(),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if again, err := w.process(caLife*4/5 + time.Hour).Current(t.Context()); again != second.AuthorityID || err != nil {
		t.Errorf("replaced once more: %s, %v", again, err)
	}
	if after := bundle(t, w.process(caLife+time.Hour)); after == both || !strings.Contains(both, after) {
		t.Error("an authority that has ended is still told")
	}
}

func newest(bundle string) string {
	block, _ := pem.Decode([]byte(bundle))
	return string(pem.EncodeToMemory(block))
}

func TestRollAfterATheft(t *testing.T) {
	w := newWorld(t)
	c := w.process(0)
	first := sign(t, c)
	old := bundle(t, c)
	if _, err := c.Roll(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	second := sign(t, w.process(0))
	now := bundle(t, c)
	if believe(t, first, now, instance, w.now) == nil || believe(t, second, old, instance, w.now) == nil {
		t.Error("the stolen authority is still believed")
	}
	if err := believe(t, second, now, instance, w.now); err != nil {
		t.Error(err)
	}
	if _, err := c.Roll(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := believe(t, sign(t, c), now, instance, w.now); err != nil {
		t.Errorf("after an ordinary roll a client with the bundle before: %v", err)
	}
}

// TestStoreWithoutMasterKey: an authority whose key cannot be opened is not replaced by another one.
func TestStoreWithoutMasterKey(t *testing.T) {
	w := newWorld(t)
	sign(t, w.process(0))
	var err error
	if w.sealer, err = secretsfile.Open(filepath.Join(t.TempDir(), "another.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.process(0).Current(t.Context()); err == nil {
		t.Error("a process with another master key has an authority")
	}
	var all []store.Authority
	if all, err = w.store.Authorities(context.WithoutCancel(t.Context())); len(all) != 1 || err != nil {
		t.Errorf("%d authorities, %v", len(all), err)
	}
}
