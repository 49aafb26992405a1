package server_test

import (
	"context"
	"log/slog"
	"net"
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

func (s *site) rolled(t *testing.T) {
	t.Helper()
	if _, err := server.BeginCARoll(t.Context(), s.cfg.Keys, clock.System{}, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the CA to be replaced", func() bool { return s.phase(t) == server.CAStable })
}

// TestAGuestThatWasOffForAWeek misses a roll of the CA, the end of its credential and a move of the bus, all while it is off.
func TestAGuestThatWasOffForAWeek(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.CredentialLife = 2 * time.Second })
	dir := s.enrolled(t, trove.NewID())
	expired := time.Now().Add(3 * time.Second)
	s.rolled(t)
	s = s.again(t, func(c *server.Config) { c.Listen = "127.0.0.1:0" })
	eventually(t, "the credential to expire", func() bool { return time.Now().After(expired) })
	g := s.join(t, dir)
	if g.Server() != s.own() {
		t.Errorf("the guest is at %s, want %s", g.Server(), s.own())
	}
}

// TestAGuestFindsTheBusAtAnotherAddress moves the bus while a guest is connected that nobody told, with a credential that is good for long.
func TestAGuestFindsTheBusAtAnotherAddress(t *testing.T) {
	t.Parallel()
	s := start(t)
	dir := s.enrolled(t, trove.NewID())
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{Log: slog.New(slog.DiscardHandler), LostAfter: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	eventually(t, "the guest to connect", g.Connected)
	s = s.again(t, func(c *server.Config) { c.Listen = "127.0.0.1:0" })
	eventually(t, "the guest to be at the new address", func() bool { return g.Connected() && g.Server() == s.own() })
}

// renewals counts what a guest logs.
type renewals struct {
	slog.Handler
	n atomic.Int64
}

func (r *renewals) Handle(_ context.Context, rec slog.Record) error {
	if rec.Message == "guest renewed its credential" {
		r.n.Add(1)
	}
	return nil
}

func (r *renewals) Enabled(context.Context, slog.Level) bool { return true }

// TestGuestsOfABusyBrokerDoNotAskTheEndpoint has a broker that hangs up on everybody, as one does that has more handshakes to make than it can, and then one
// that is not there.
func TestGuestsOfABusyBrokerDoNotAskTheEndpoint(t *testing.T) {
	t.Parallel()
	busy, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	var calls atomic.Int64
	go func() {
		for {
			c, err := busy.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	s := start(t, func(c *server.Config) { c.Addresses = []string{busy.Addr().String()} })
	heard := &renewals{Handler: slog.DiscardHandler}
	g, err := natsbus.DialGuest(t.Context(), s.enrolled(t, trove.NewID()), natsbus.Options{Log: slog.New(heard), LostAfter: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	eventually(t, "the guest to try again", func() bool { return calls.Load() >= 3 })
	if n := heard.n.Load(); n > 0 {
		t.Errorf("the guest asked the endpoint %d times while its broker was busy", n)
	}
	_ = busy.Close()
	eventually(t, "the guest to ask whether the bus is elsewhere", func() bool { return heard.n.Load() > 0 })
}

// TestFormerAddressesAreServed moves the bus and the enrolment endpoint, with the addresses that they had served as well: for a guest with a good
// credential and for one whose credential has expired.
func TestFormerAddressesAreServed(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.CredentialLife = 4 * time.Second })
	good, old := s.enrolled(t, trove.NewID()), s.enrolled(t, trove.NewID())
	g := s.join(t, good)
	expired := time.Now().Add(5 * time.Second)
	bus, enrol := s.own(), s.EnrolURLs()[0][len("https://"):]
	s = s.again(t, func(c *server.Config) {
		c.Listen, c.EnrolListen, c.FormerListen, c.FormerEnrolListen = "127.0.0.1:0", "127.0.0.1:0", []string{bus}, []string{enrol}
	})
	eventually(t, "the guest to be back", g.Connected)
	eventually(t, "the other credential to expire", func() bool { return time.Now().After(expired) })
	s.join(t, old)
	eventually(t, "the guest to be told of the new address", func() bool { return g.Server() == s.own() })
}

// TestARefusedGuestAsksAgain has brokers that do not accept what the guest holds although it is good by the guest's own clock, as after a step of theirs.
func TestARefusedGuestAsksAgain(t *testing.T) {
	t.Parallel()
	s := start(t)
	instance := trove.NewID()
	dir := s.enrolled(t, instance)
	v := s.steal(t, dir, instance)
	g := s.join(t, dir)
	// A credential of the past, good for long by the guest's clock, which was set back by a week.
	behind := clock.NewManual(time.Now().Add(-week))
	other := s.member(t, "behind", func(c *server.Config) { c.Clock, c.CredentialLife = behind, 48*time.Hour })
	_ = g.Close()
	c, err := other.IssueGuest(t.Context(), instance, v.public(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
	replace(t, dir, c.JWT)
	again, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{Log: slog.New(slog.DiscardHandler), Clock: behind})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	eventually(t, "the guest to join with a new credential", again.Connected)
}

// TestACredentialThatDoesNotWorkIsRefused pushes credentials that are well formed and would cut the guest off: the old one stays, and the guest connected.
func TestACredentialThatDoesNotWorkIsRefused(t *testing.T) {
	s := start(t)
	stranger := start(t)
	instance := trove.NewID()
	dir := s.enrolled(t, instance)
	connects := make(chan struct{}, 10)
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{
		Log: slog.New(slog.DiscardHandler), OnConnect: func(context.Context) { connects <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	<-connects
	held := s.steal(t, dir, instance).jwt
	good := s.credential(t, instance)
	untrusted, nowhere, unsigned := good, good, good
	untrusted.CABundle = stranger.CABundle()
	nowhere.Addresses = []string{"127.0.0.1:1"}
	foreign, err := stranger.IssueGuest(t.Context(), instance, s.guests.key(instance))
	if err != nil {
		t.Fatal(err)
	}
	unsigned.JWT = foreign.JWT
	for name, c := range map[string]struct {
		jwt, bundle string
		addresses   []string
	}{
		"another CA":                   {untrusted.JWT, untrusted.CABundle, untrusted.Addresses},
		"an address where nobody is":   {nowhere.JWT, nowhere.CABundle, nowhere.Addresses},
		"signed by another deployment": {unsigned.JWT, unsigned.CABundle, unsigned.Addresses},
	} {
		bad := good
		bad.JWT, bad.CABundle, bad.Addresses = c.jwt, c.bundle, c.addresses
		if _, err := g.AcceptCredential(t.Context(), bad); trove.KindOf(err) != trove.KindUnavailable {
			t.Errorf("%s: %v, want that it does not work", name, err)
		}
	}
	if s.steal(t, dir, instance).jwt != held || !g.Connected() {
		t.Error("the guest did not keep its credential")
	}
}

// TestAfterATheftOfTheBusKeys makes new ones: the stolen ones are worth nothing, and guests come back by themselves.
func TestAfterATheftOfTheBusKeys(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	dir := s.enrolled(t, instance)
	stolen := copyOf(t, dir)
	g := s.join(t, dir)
	s = s.again(t, func(c *server.Config) {
		if err := os.Remove(filepath.Join(string(c.Keys.(keyfile.Dir)), "bus.json")); err != nil {
			t.Error(err)
		}
	})
	if s.accepts(t, stolen, instance) {
		t.Error("a credential of the stolen keys is accepted")
	}
	eventually(t, "the guest to come back with a credential of the new keys", g.Connected)
}
