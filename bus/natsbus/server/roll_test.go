package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// repository of a site, to say what guests were told.
func (s *site) repository() *server.MemoryRepository {
	return s.cfg.Repository.(*server.MemoryRepository)
}

func (s *site) phase(t testing.TB) server.CAPhase {
	t.Helper()
	st, err := server.ReadCA(s.cfg.Keys)
	if err != nil {
		t.Fatal(err)
	}
	return st.Phase
}

// again starts the broker anew over the same keys and store, at the same addresses unless changed.
func (s *site) again(t testing.TB, change ...func(*server.Config)) *site {
	t.Helper()
	addresses, urls := s.Addresses(), s.EnrolURLs()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := *s
	n.cfg.Listen, n.cfg.EnrolListen = addresses[0], urls[0][len("https://"):]
	for _, c := range change {
		c(&n.cfg)
	}
	var err error
	if n.Server, err = server.Start(t.Context(), n.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return &n
}

// renew hands a guest a credential as it would be issued now, and notes that it took it.
func (s *site) renew(t testing.TB, g *natsbus.GuestConn, dir, instance string) {
	t.Helper()
	c, err := s.IssueGuest(t.Context(), instance, s.guests.key(instance))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.ReplaceCredential(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s.repository().SetGuestTrust(server.GuestTrust{InstanceID: instance, Trust: c.Trust(), SeenAt: time.Now()})
	eventually(t, "the guest to be back with the new credential", g.Connected)
}

func (r *registry) key(instance string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[instance]
}

// presented returns the subject of the CA that signed the certificate shown on an address, verified with the bundle.
func presented(t testing.TB, url, bundle string) (issuer string, err error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	d := &tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}
	c, err := d.DialContext(t.Context(), "tcp", url[len("https://"):])
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Issuer.CommonName, nil
}

func certificates(bundle string) (n int) {
	for rest := []byte(bundle); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n
		}
	}
}

// TestTheCARollsWithoutLosingAGuest goes through all phases with a guest that listens and with one that sleeps through everything.
func TestTheCARollsWithoutLosingAGuest(t *testing.T) {
	s := start(t)
	awake, asleep := trove.NewID(), trove.NewID()
	dir, sleeping := s.enrolled(t, awake), s.enrolled(t, asleep)
	old := s.CABundle()
	var lost atomic.Int32
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{
		Log: slog.New(slog.DiscardHandler), OnConnect: func(context.Context) { lost.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	eventually(t, "the guest to connect", g.Connected)
	for _, id := range []string{awake, asleep} {
		s.repository().SetGuestTrust(server.GuestTrust{InstanceID: id, Trust: s.Trust(), SeenAt: time.Now().Add(-time.Hour)})
	}
	s.repository().SetGuestTrust(server.GuestTrust{InstanceID: awake, Trust: s.Trust(), SeenAt: time.Now()})
	before, err := presented(t, s.EnrolURLs()[0], old)
	if err != nil {
		t.Fatal(err)
	}

	if began, err := server.BeginCARoll(t.Context(), s.cfg.Keys, clock.System{}, 0); err != nil || !began {
		t.Fatalf("begin: %v, %v", began, err)
	}
	if began, err := server.BeginCARoll(t.Context(), s.cfg.Keys, clock.System{}, 0); err != nil || began {
		t.Fatalf("a second roll at the same time: %v, %v", began, err)
	}
	if n := certificates(s.CABundle()); n != 2 {
		t.Errorf("guests are told %d CAs, want 2", n)
	}
	if by, err := presented(t, s.EnrolURLs()[0], old); err != nil || by != before {
		t.Errorf("the announced CA signs already: %s, %v", by, err)
	}
	waiting, err := s.RollOnce(t.Context())
	if err != nil || len(waiting) != 1 || waiting[0] != awake || s.phase(t) != server.CAAnnounced {
		t.Fatalf("waits for %v in phase %s, %v; want the guest that is awake", waiting, s.phase(t), err)
	}

	s.renew(t, g, dir, awake)
	eventually(t, "the next CA to sign", func() bool { return s.phase(t) == server.CASwitched })
	if by, err := presented(t, s.EnrolURLs()[0], s.CABundle()); err != nil || by == before {
		t.Errorf("the old CA still signs: %s, %v", by, err)
	}
	if _, err := presented(t, s.EnrolURLs()[0], old); err != nil {
		t.Errorf("who knows the old CA only does not believe the new one: %v", err)
	}
	if waiting, err := s.RollOnce(t.Context()); err != nil || len(waiting) != 1 || waiting[0] != asleep || s.phase(t) != server.CASwitched {
		t.Fatalf("waits for %v in phase %s, %v; want the guest that sleeps", waiting, s.phase(t), err)
	}
	if phase, err := server.ContinueCARoll(t.Context(), s.cfg.Keys, clock.System{}); err != nil || phase != server.CAStable {
		t.Fatalf("forced: %s, %v", phase, err)
	}
	if n := certificates(s.CABundle()); n != 1 {
		t.Errorf("guests are told %d CAs after the roll, want 1", n)
	}
	s.renew(t, g, dir, awake)
	eventually(t, "the guest to connect with the second credential too", func() bool { return lost.Load() == 3 })
	s.join(t, sleeping) // with the old CA alone
	data, err := os.ReadFile(filepath.Join(s.keysDir(), "bus-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "PRIVATE KEY" {
			keys++
		}
	}
	if keys != 1 {
		t.Errorf("the file holds %d private keys, want that of the new CA alone", keys)
	}
}

// TestARollGoesOnAfterAKillInEachPhase restarts the broker in each phase, and rolls twice, so that a guest of the first CA needs both signatures.
func TestARollGoesOnAfterAKillInEachPhase(t *testing.T) {
	s := start(t)
	dir := s.enrolled(t, trove.NewID())
	for range 2 {
		if _, err := server.BeginCARoll(t.Context(), s.cfg.Keys, clock.System{}, 0); err != nil {
			t.Fatal(err)
		}
		s = s.again(t)
		eventually(t, "the roll to be over", func() bool { return s.phase(t) == server.CAStable })
		s = s.again(t)
	}
	s.join(t, dir)
}

// TestARollThatIsDueBeginsByItself gives the CA a life of which a quarter is left.
func TestARollThatIsDueBeginsByItself(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.CALife, c.CertificateLife = 8*time.Second, 2*time.Second })
	first := s.CABundle()
	g := s.guest(t, trove.NewID())
	eventually(t, "another CA", func() bool { return s.phase(t) == server.CAStable && s.CABundle() != first })
	if !g.Connected() {
		t.Error("a guest was cut off")
	}
	s.guest(t, trove.NewID())
}

// TestAFileOfTheFirstVersionIsRead has a CA that may not sign others: no guest may miss the change.
func TestAFileOfTheFirstVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bus-ca.pem"), []byte(firstVersionCA(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *server.Config) { c.Keys = keyfile.Dir(dir) })
	g := s.guest(t, trove.NewID())
	if !g.Connected() {
		t.Error("the guest did not connect")
	}
	asleep := trove.NewID()
	s.repository().SetGuestTrust(server.GuestTrust{InstanceID: asleep, Trust: s.Trust(), SeenAt: time.Now().Add(-time.Hour)})
	if _, err := server.BeginCARoll(t.Context(), keyfile.Dir(dir), clock.System{}, 0); err != nil {
		t.Fatal(err)
	}
	if waiting, err := s.RollOnce(t.Context()); err != nil || len(waiting) != 1 {
		t.Errorf("waits for %v, %v; want the guest that sleeps too", waiting, err)
	}
	for range 2 {
		if _, err := server.ContinueCARoll(t.Context(), keyfile.Dir(dir), clock.System{}); err != nil {
			t.Fatal(err)
		}
	}
	s.guest(t, trove.NewID())
}
