package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/clock"
)

const week = 7 * 24 * time.Hour

// firstVersionCA is a file as the first version wrote it: no roles, and no right to sign other CAs.
func firstVersionCA(t *testing.T) string {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Trove bus CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(week),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// TestCertificatesAtTheirRealLives decides with the lives that apply where nothing is set, and with a clock that is set.
func TestCertificatesAtTheirRealLives(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ca, _, err := server.MakeCA(now, server.DefaultCALife)
	if err != nil {
		t.Fatal(err)
	}
	years := func(n float64) time.Time { return now.Add(time.Duration(n * 365 * 24 * float64(time.Hour))) }
	for at, want := range map[time.Time]bool{
		now: false, now.Add(-week): false, now.Add(week): false, years(7.4): false, years(7.5): true, years(9.9): true, years(11): true,
	} {
		if got := server.CADue(ca, at); got != want {
			t.Errorf("the CA at %s: due %v, want %v", at, got, want)
		}
	}
	s := start(t)
	leaf, err := server.IssueLeaf(s.cfg.Keys, now, server.DefaultCertificateLife)
	if err != nil {
		t.Fatal(err)
	}
	days := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	for at, want := range map[time.Time]bool{
		now: false, now.Add(-time.Hour): false, days(59): false, days(60): true, days(91): true,
		now.Add(week):  false,
		now.Add(-week): true, // the clock was a week ahead when it was made: guests would not believe it yet
	} {
		if got := server.LeafDue(leaf.Leaf, at); got != want {
			t.Errorf("the server certificate at %s: due %v, want %v", at, got, want)
		}
	}
}

// TestAClockThatIsSetByAWeek steps the broker's clock: certificates made meanwhile are replaced when it is right again.
func TestAClockThatIsSetByAWeek(t *testing.T) {
	c := clock.NewManual(time.Now())
	s := start(t, func(cfg *server.Config) { cfg.Clock = c })
	show := func() error {
		_, err := presented(t, s.EnrolURLs()[0], s.CABundle())
		return err
	}
	for i, step := range []time.Duration{0, week, -week, -week, week} {
		c.Add(step)
		if err := show(); err != nil && time.Until(c.Now()).Abs() < time.Hour {
			t.Errorf("step %d, with the right time again: %v", i, err)
		}
	}
}

// TestAGuestWhoseClockIsDaysBehindComesBack: its machine was suspended and goes on with the time of before, and the controllers have certificates that were made since.
func TestAGuestWhoseClockIsDaysBehindComesBack(t *testing.T) {
	s := start(t, func(cfg *server.Config) { cfg.Clock = clock.NewManual(time.Now().Add(week)) })
	instance := trove.NewID()
	boot, dir := s.boot(t, instance), t.TempDir()
	enrol := func(boot bus.BootData, dir string, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return natsbus.Enrol(ctx, boot, dir)
	}
	if err := enrol(boot, dir, patience); err != nil {
		t.Fatal(err)
	}
	s.lose(t, boot, dir)
	if err := enrol(boot, dir, patience); err != nil {
		t.Errorf("the renewal: %v", err)
	}
	// A certificate of somebody else teaches nothing.
	boot.CABundle = start(t).CABundle()
	if err := enrol(boot, t.TempDir(), 200*time.Millisecond); err == nil || s.metric(t, "trove_bus_enrolment_requests_total", "token_reused") != 0 {
		t.Errorf("with another CA: %v", err)
	}
}

func TestJitterGrowsWithTheGuests(t *testing.T) {
	for guests, want := range map[int]time.Duration{0: time.Second, 100: time.Second, 500: time.Second, 5000: 10 * time.Second, 10000: 20 * time.Second} {
		if got := server.JitterFor(guests); got != want {
			t.Errorf("%d guests wait up to %s, want %s", guests, got, want)
		}
	}
}
