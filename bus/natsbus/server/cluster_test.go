package server_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/bustest"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// member starts a broker of the deployment that the first one began: the same keys, store and guests.
func (s *site) member(t testing.TB, id string, change ...func(*server.Config)) *site {
	t.Helper()
	n := *s
	n.metrics, n.log = prometheus.NewRegistry(), &syncBuffer{}
	n.cfg.ID, n.cfg.Listen, n.cfg.EnrolListen, n.cfg.Metrics = id, "127.0.0.1:0", "127.0.0.1:0", n.metrics
	n.cfg.Log = slog.New(slog.NewTextHandler(n.log, nil))
	for _, c := range change {
		c(&n.cfg)
	}
	var err error
	if n.Server, err = server.Start(t.Context(), n.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.Close()
		if t.Failed() {
			t.Log(id, n.log)
		}
	})
	return &n
}

// cluster starts three brokers with routes between them.
func cluster(t testing.TB) (a, b, c *site) {
	t.Helper()
	a = start(t, func(cfg *server.Config) { cfg.ID, cfg.RouteListen = "a", "127.0.0.1:0" })
	b, c = a.member(t, "b"), a.member(t, "c")
	eventually(t, "all brokers to have routes to each other", func() bool { return a.Routes() == 2 && b.Routes() == 2 && c.Routes() == 2 })
	return a, b, c
}

func (s *site) own() string { return s.Addresses()[0] }

// pin makes a guest know these addresses of the bus alone.
func pin(t testing.TB, dir string, addresses ...string) {
	t.Helper()
	edit(t, dir, func(c *bus.Credential) { c.Addresses = addresses })
}

// replace gives a guest another JWT.
func replace(t testing.TB, dir, jwt string) {
	t.Helper()
	edit(t, dir, func(c *bus.Credential) { c.JWT = jwt })
}

func edit(t testing.TB, dir string, change func(*bus.Credential)) {
	t.Helper()
	path := filepath.Join(dir, "credential.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c bus.Credential
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	change(&c)
	if data, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// guestAt enrols and joins a guest at one broker.
func (s *site) guestAt(t testing.TB, instance string, addresses ...string) *natsbus.GuestConn {
	t.Helper()
	dir := s.enrolled(t, instance)
	pin(t, dir, addresses...)
	return s.join(t, dir)
}

func answers(t testing.TB, c bus.Conn, instance string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	data, err := c.Request(ctx, guestapi.CommandSubject(instance), []byte("who"))
	return err == nil && string(data) == "who"
}

// TestConformanceThroughRoutes has everybody on another broker.
func TestConformanceThroughRoutes(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Fixture {
		a, b, c := cluster(t)
		f := bustest.Fixture{GuestID: trove.NewID(), Guest2ID: trove.NewID()}
		f.Guest, f.Guest2 = a.guestAt(t, f.GuestID, a.own()), a.guestAt(t, f.Guest2ID, b.own())
		f.Controller, f.Controller2 = b.controller(t, "requests"), c.controller(t, "reports")
		return f
	})
}

// TestGuestsAreToldOfAllBrokers follows a broker that comes, and guests whose broker goes: killed, and in order.
func TestGuestsAreToldOfAllBrokers(t *testing.T) {
	a, b, c := cluster(t)
	eventually(t, "all brokers to tell of each other", func() bool { return len(a.Addresses()) == 3 && len(b.Addresses()) == 3 && len(a.EnrolURLs()) == 3 })
	if a.Trust() != b.Trust() || a.Trust() != c.Trust() {
		t.Error("brokers tell guests different things")
	}
	instance := trove.NewID()
	g := a.guestAt(t, instance, b.own(), a.own())
	answering(t, g, instance)
	asker := c.controller(t, "requests")
	eventually(t, "an answer from the guest", func() bool { return answers(t, asker, instance) })
	at := map[string]*site{a.own(): a, b.own(): b}
	from := at[g.Server()]
	if from == nil {
		t.Fatalf("the guest is at %s", g.Server())
	}
	from.Kill()
	eventually(t, "the guest to be at another broker and to answer", func() bool {
		return g.Connected() && g.Server() != from.own() && answers(t, asker, instance)
	})
	for address, s := range at {
		if address != from.own() { // the one where it is now ends in order; it knows the third
			if err := g.ReplaceCredential(t.Context(), c.credential(t, instance)); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			eventually(t, "the guest to be at the last broker and to answer", func() bool {
				return g.Connected() && g.Server() == c.own() && answers(t, asker, instance)
			})
		}
	}
}

func (s *site) credential(t testing.TB, instance string) bus.Credential {
	t.Helper()
	c, err := s.IssueGuest(t.Context(), instance, s.guests.key(instance))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestARevokedKeyIsRefusedEverywhere revokes at one broker: cut at another one at once, at one that is cut off from the others within 5 s, and refused by one
// that was down.
func TestARevokedKeyIsRefusedEverywhere(t *testing.T) {
	a, b, _ := cluster(t)
	apart := a.member(t, "apart", func(c *server.Config) { c.RouteListen = "" })
	instance := trove.NewID()
	dir := a.enrolled(t, instance)
	key := a.guests.key(instance)
	copied := copyOf(t, dir)
	pin(t, dir, b.own())
	pin(t, copied, apart.own())
	near, far := a.join(t, dir), a.join(t, copied)
	took := clock.Stopwatch()
	if err := a.RevokeGuest(t.Context(), instance, key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other broker to cut the guest", func() bool { return !near.Connected() })
	first := took()
	eventually(t, "the broker that is cut off to cut it", func() bool { return !far.Connected() })
	t.Logf("cut after %s at another broker, after %s at one without routes", first.Round(time.Millisecond), took().Round(time.Millisecond))
	late := a.member(t, "late")
	for _, s := range []*site{a, b, apart, late} {
		if s.accepts(t, dir, instance) {
			t.Errorf("broker %s accepts the revoked key", s.cfg.ID)
		}
		if _, err := s.IssueGuest(t.Context(), instance, key); trove.KindOf(err) != trove.KindForbidden {
			t.Errorf("broker %s issues a credential for the revoked key: %v", s.cfg.ID, err)
		}
	}
}

// accepts says whether the broker lets the identity in.
func (s *site) accepts(t testing.TB, dir, instance string) bool {
	t.Helper()
	nc, err := s.steal(t, dir, instance).tryAttack(t)
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

// TestOneGuestOnTwoBrokersCounts has the limit of connections with one key hold over all brokers.
func TestOneGuestOnTwoBrokersCounts(t *testing.T) {
	a, b, c := cluster(t)
	instance := trove.NewID()
	dir := a.enrolled(t, instance)
	var all []*natsbus.GuestConn
	for _, s := range []*site{a, b, c} {
		copied := copyOf(t, dir)
		pin(t, copied, s.own())
		all = append(all, s.join(t, copied))
	}
	eventually(t, "the oldest of three connections to be cut", func() bool { return a.metric(t, "trove_bus_kicks_total", "connections") > 0 })
	for _, g := range all {
		_ = g.Close()
	}
}

// copyOf copies a guest's identity, as somebody does who copies its machine.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{"guest.nk", "credential.json", "enrolment.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}
