package server_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/bustest"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// dial connects a controller as another process does: over TLS, with the keys alone.
func (s *site) dial(t testing.TB, name string, change ...func(*server.ControllerConfig)) *server.Controller {
	t.Helper()
	address := s.Addresses()[0]
	cfg := server.ControllerConfig{
		Keys: s.cfg.Keys, Address: func() (string, error) { return address, nil }, Name: name,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := server.DialController(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answering subscribes a guest that sends back what it is asked.
func answering(t testing.TB, g bus.Conn, instance string) {
	t.Helper()
	_, err := g.Subscribe(t.Context(), guestapi.CommandSubject(instance), "", func(ctx context.Context, m bus.Message) { _ = m.Reply(ctx, m.Data) })
	if err != nil {
		t.Fatal(err)
	}
}

func ask(ctx context.Context, c bus.Conn, instance string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := c.Request(ctx, guestapi.CommandSubject(instance), []byte("x"))
	if err == nil && string(answer) != "x" {
		return errors.New("the answer is " + string(answer))
	}
	return err
}

func TestControllersOfOtherProcessesConform(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Fixture {
		s := start(t)
		f := bustest.Fixture{GuestID: trove.NewID(), Guest2ID: trove.NewID()}
		f.Guest, f.Guest2 = s.guest(t, f.GuestID), s.guest(t, f.Guest2ID)
		f.Controller, f.Controller2 = s.dial(t, "requests"), s.dial(t, "reports")
		return f
	})
}

func TestAControllerRenewsItsIdentityBetweenRequests(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.Limits = server.Limits{Messages: 1 << 30, Bytes: 1 << 40} }) // the guest answers often
	instance := trove.NewID()
	answering(t, s.guest(t, instance), instance)
	c := s.dial(t, "requests", func(c *server.ControllerConfig) { c.CredentialLife = 12 * time.Second }) // a quarter is left for a renewal that is late
	reports := make(chan struct{}, 1)
	_, err := c.Subscribe(t.Context(), guestapi.AllReports, "", func(context.Context, bus.Message) {
		select {
		case reports <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "two renewals", func() bool {
		if err := ask(t.Context(), c, instance); err != nil {
			t.Fatalf("a request failed: %v", err)
		}
		return strings.Count(s.log.String(), "identity on the bus was renewed") >= 2
	})
	if log := s.log.String(); strings.Contains(log, "xpired") {
		t.Errorf("an identity expired:\n%s", log)
	}
	other := trove.NewID()
	g := s.guest(t, other)
	eventually(t, "a report after the renewals", func() bool {
		if err := g.Publish(t.Context(), guestapi.ReportSubject(other, "hb"), nil); err != nil {
			t.Fatal(err)
		}
		return len(reports) > 0
	})
}

func TestAControllerMayStartBeforeTheBroker(t *testing.T) {
	var address atomic.Pointer[string]
	where := func() (string, error) {
		if a := address.Load(); a != nil {
			return *a, nil
		}
		return "", trove.Errorf(trove.KindUnavailable, "The bus was never started.")
	}
	log := &syncBuffer{}
	keys := t.TempDir()
	c, err := server.DialController(t.Context(), server.ControllerConfig{
		Keys: keyfile.Dir(keys), Address: where, Name: "reports", Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	got := make(chan struct{})
	var once sync.Once
	if _, err := c.Subscribe(t.Context(), guestapi.AllReports, "", func(context.Context, bus.Message) { once.Do(func() { close(got) }) }); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), guestapi.WakeSubject, nil); err == nil || errors.Is(err, bus.ErrClosed) {
		t.Errorf("Publish without a broker: %v, want an error that passes", err)
	}
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "never started") })
	s := start(t, func(c *server.Config) { c.Keys = keyfile.Dir(keys) })
	told := s.Addresses()[0]
	address.Store(&told)
	eventually(t, "the controller to connect", c.Connected)
	instance := trove.NewID()
	g := s.guest(t, instance)
	eventually(t, "a report", func() bool {
		if err := g.Publish(t.Context(), guestapi.ReportSubject(instance, "hb"), nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
			return true
		default:
			return false
		}
	})
}

func TestAControllerComesBackAfterARestartOfTheBroker(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	g := s.guest(t, instance)
	answering(t, g, instance)
	c := s.dial(t, "requests")
	if err := ask(t.Context(), c, instance); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Listen, cfg.EnrolListen = s.Addresses()[0], s.EnrolURLs()[0][len("https://"):]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the controller to notice", func() bool { return !c.Connected() })
	if err := ask(t.Context(), c, instance); err == nil || errors.Is(err, bus.ErrClosed) {
		t.Errorf("Request without a broker: %v, want an error that passes", err)
	}
	again, err := server.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	eventually(t, "an answer", func() bool { return ask(t.Context(), c, instance) == nil })
}

// copied returns a directory of keys that has one file of another.
func copied(t testing.TB, keys, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(keys, name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAControllerWithOtherKeysIsRefused(t *testing.T) {
	s := start(t)
	for name, dir := range map[string]func() string{
		"another deployment":              t.TempDir,
		"its authority with other keys":   func() string { return copied(t, s.keysDir(), "bus-ca.pem") },
		"its keys with another authority": func() string { return copied(t, s.keysDir(), "bus.json") },
	} {
		log := &syncBuffer{}
		keys := dir()
		var attempts atomic.Int32
		c := s.dial(t, "requests", func(c *server.ControllerConfig) {
			address := c.Address
			c.Keys, c.Log = keyfile.Dir(keys), slog.New(slog.NewTextHandler(log, nil))
			c.Address = func() (string, error) { attempts.Add(1); return address() }
		})
		eventually(t, name+": three attempts", func() bool { return attempts.Load() > 3 })
		eventually(t, name+": that somebody is told", func() bool { return strings.Contains(log.String(), "could not be reached") })
		if c.Connected() || strings.Contains(log.String(), "connected to the bus") {
			t.Errorf("%s: the controller connected", name)
		}
		if err := c.Publish(t.Context(), guestapi.WakeSubject, nil); err == nil {
			t.Errorf("%s: Publish succeeded", name)
		}
		_ = c.Close()
	}
}

func TestTheNameOfAControllerIsNoPattern(t *testing.T) {
	s := start(t)
	for _, name := range []string{"", "UPPER", "a.b", "*", ">"} {
		_, err := server.DialController(t.Context(), server.ControllerConfig{Keys: s.cfg.Keys, Name: name})
		if trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}
