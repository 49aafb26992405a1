package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/bustest"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// registry is the Guests of the tests: instances by token, keys by instance.
type registry struct {
	mu     sync.Mutex
	tokens map[string]string // hash → instance
	used   map[string]string // hash → key
	keys   map[string]string // instance → key
	ends   map[string]time.Time
}

func newRegistry() *registry {
	return &registry{tokens: map[string]string{}, used: map[string]string{}, keys: map[string]string{}, ends: map[string]time.Time{}}
}

func (r *registry) UseEnrolmentToken(_ context.Context, hash, key string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	instance, ok := r.tokens[hash]
	switch used := r.used[hash]; {
	case !ok:
		return "", trove.Errorf(trove.KindUnauthorized, "unknown")
	case used != "" && used != key:
		return instance, trove.Errorf(trove.KindConflict, "used")
	}
	r.used[hash], r.keys[instance] = key, key
	return instance, nil
}

func (r *registry) TokenOwner(_ context.Context, hash string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	instance, ok := r.tokens[hash]
	if !ok {
		return "", trove.Errorf(trove.KindNotFound, "unknown")
	}
	return instance, nil
}

func (r *registry) GuestKey(_ context.Context, instance string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.keys[instance]
	if !ok {
		return "", trove.Errorf(trove.KindNotFound, "gone")
	}
	return key, nil
}

func (r *registry) CredentialIssued(_ context.Context, instance string, expires time.Time, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[instance] = expires
	return nil
}

func (r *registry) remove(instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, instance)
}

func (r *registry) setKey(instance, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[instance] = key
}

// userKey makes a key that a guest could have, and its public half.
func userKey(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// site is a broker with what belongs to it.
type site struct {
	*server.Server
	cfg     server.Config
	guests  *registry
	metrics *prometheus.Registry
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t testing.TB, change ...func(*server.Config)) *site {
	t.Helper()
	s := &site{guests: newRegistry(), metrics: prometheus.NewRegistry(), log: &syncBuffer{}}
	s.cfg = server.Config{
		Keys: keyfile.Dir(t.TempDir()), Listen: "127.0.0.1:0", EnrolListen: "127.0.0.1:0", Repository: server.NewMemoryRepository(), Guests: s.guests,
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Metrics: s.metrics,
	}
	for _, c := range change {
		c(&s.cfg)
	}
	var err error
	if s.Server, err = server.Start(t.Context(), s.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		if t.Failed() {
			t.Log(s.log)
		}
	})
	return s
}

// keysDir is where the files of the deployment's keys are.
func (s *site) keysDir() string { return string(s.cfg.Keys.(keyfile.Dir)) }

func (s *site) boot(t testing.TB, instance string) bus.BootData {
	t.Helper()
	token := trove.NewID()
	s.guests.mu.Lock()
	s.guests.tokens[bus.HashToken(trove.Secret(token))] = instance
	s.guests.mu.Unlock()
	return bus.BootData{Instance: instance, Token: token, EnrolURLs: s.EnrolURLs(), CABundle: s.CABundle()}
}

// guest enrols and joins, and returns when it is connected.
func (s *site) guest(t testing.TB, instance string) *natsbus.GuestConn {
	t.Helper()
	return s.join(t, s.enrolled(t, instance))
}

func (s *site) enrolled(t testing.TB, instance string) (dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir = t.TempDir()
	if err := natsbus.Enrol(ctx, s.boot(t, instance), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// join connects the guest of a directory.
func (s *site) join(t testing.TB, dir string) *natsbus.GuestConn {
	t.Helper()
	return connect(t, dir, 0)
}

// connect connects a guest, which looks for its controllers elsewhere once it has found none for a time; 0 is the usual one.
func connect(t testing.TB, dir string, lostAfter time.Duration) *natsbus.GuestConn {
	t.Helper()
	connected := make(chan struct{}, 100)
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{
		Log: slog.New(slog.DiscardHandler), LostAfter: lostAfter, OnConnect: func(context.Context) { connected <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	select {
	case <-connected:
	case <-time.After(patience):
		t.Fatal("the guest did not connect")
	}
	return g
}

func (s *site) controller(t testing.TB, name string) bus.Conn {
	t.Helper()
	c, err := s.Conn(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited %s for: %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Fixture {
		s := start(t)
		f := bustest.Fixture{GuestID: trove.NewID(), Guest2ID: trove.NewID()}
		f.Guest, f.Guest2 = s.guest(t, f.GuestID), s.guest(t, f.Guest2ID)
		f.Controller, f.Controller2 = s.controller(t, "requests"), s.controller(t, "reports")
		return f
	})
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	s := start(t)
	for name, change := range map[string]func(*server.Config){
		"bus port taken":       func(c *server.Config) { c.Listen = s.Addresses()[0] },
		"enrolment port taken": func(c *server.Config) { c.EnrolListen = s.EnrolURLs()[0][len("https://"):] },
		"no address to tell":   func(c *server.Config) { c.Listen = "0.0.0.0:0" },
		"no port":              func(c *server.Config) { c.Listen = "127.0.0.1" },
	} {
		cfg := s.cfg
		cfg.Metrics = nil
		change(&cfg)
		if other, err := server.Start(t.Context(), cfg); err == nil {
			_ = other.Close()
			t.Errorf("%s: Start succeeded", name)
		}
	}
}

func TestGuestsComeBackAfterARestartWithTheSameKeys(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	dir := s.enrolled(t, instance)
	g := s.join(t, dir)
	cfg := s.cfg
	cfg.Listen, cfg.EnrolListen = s.Addresses()[0], s.EnrolURLs()[0][len("https://"):]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guest to notice", func() bool { return !g.Connected() })
	if err := g.Publish(t.Context(), "trove.v1.guest."+instance+".up.hb", nil); err == nil || errors.Is(err, bus.ErrClosed) {
		t.Errorf("Publish without a broker: %v, want an error that passes", err)
	}
	again, err := server.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if again.CABundle() != s.CABundle() {
		t.Error("the certificate authority changed")
	}
	eventually(t, "the guest to come back", g.Connected)
}

func BenchmarkRequest(b *testing.B) {
	s := start(b)
	instance := trove.NewID()
	g := s.guest(b, instance)
	subject := "trove.v1.guest." + instance + ".cmd"
	if _, err := g.Subscribe(b.Context(), subject, "", func(ctx context.Context, m bus.Message) { _ = m.Reply(ctx, m.Data) }); err != nil {
		b.Fatal(err)
	}
	c := s.controller(b, "requests")
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for b.Loop() {
		if _, err := c.Request(ctx, subject, []byte("0123456789")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	s := start(b, func(c *server.Config) { c.Limits = server.Limits{Messages: 1 << 30, Bytes: 1 << 40} })
	instance := trove.NewID()
	g := s.guest(b, instance)
	const every = 1000
	got := make(chan struct{}, 1<<16)
	n := 0
	_, err := s.controller(b, "reports").Subscribe(b.Context(), "trove.v1.guest.*.up.*", "conductor", func(context.Context, bus.Message) {
		if n++; n%every == 0 {
			got <- struct{}{}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 200)
	for b.Loop() { // one iteration is 1000 heartbeats, delivered
		for range every {
			if err := g.Publish(b.Context(), "trove.v1.guest."+instance+".up.hb", data); err != nil {
				b.Fatal(err)
			}
		}
		<-got
	}
}
