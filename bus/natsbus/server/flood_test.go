package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

func TestAFloodEndsWithTheConnectionAndThenWithTheKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	instance := trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	neighbour := s.guest(t, trove.NewID())
	flood := func() {
		a := v.attack(t)
		for a.IsConnected() {
			for range 100 {
				_ = a.Publish(guestapi.ReportSubject(instance, "hb"), []byte("x"))
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-t.Context().Done():
				return
			}
		}
	}
	for range 3 {
		flood()
	}
	eventually(t, "the key to be revoked", func() bool {
		keys, err := s.cfg.Repository.RevokedKeys(t.Context())
		return err == nil && len(keys) == 1 && keys[0].PublicKey == v.public(t)
	})
	if _, err := v.tryAttack(t); err == nil {
		t.Error("the flooding guest came back")
	}
	if !neighbour.Connected() {
		t.Error("the neighbour was cut too")
	}
}

// TestAGuestThatIsAskedALotIsNotCut asks far more often than a guest may report: the answers are the asker's doing.
func TestAGuestThatIsAskedALotIsNotCut(t *testing.T) {
	t.Parallel()
	s := start(t)
	instance := trove.NewID()
	connects := s.guest(t, instance)
	stop, err := guestapi.Serve(t.Context(), connects, instance, slog.New(slog.DiscardHandler), func(context.Context, guestapi.Request) (any, error) {
		return []trove.Database{{Name: "app"}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	client := guestapi.NewClient(s.controller(t, "requests"))
	for begin := time.Now(); time.Since(begin) < 5*time.Second; {
		if _, err := client.ListDatabases(t.Context(), instance); err != nil {
			t.Fatalf("after %s: %v", time.Since(begin).Round(time.Millisecond), err)
		}
	}
	if n := s.metric(t, "trove_bus_kicks_total", "rate"); n != 0 {
		t.Errorf("the guest was cut %v times", n)
	}
}

// TestAFloodIsCutBeforeItsNeighboursAreLate sends as much as the connection takes: the guard's patience of 3 s is for guests that are a little over their rate.
func TestAFloodIsCutBeforeItsNeighboursAreLate(t *testing.T) {
	s := start(t)
	took := s.floods(t)
	for n := 1; n < 5 && took > 2*time.Second; n++ { // a busy machine lets the guard look late now and then
		took = s.floods(t)
	}
	if took > 2*time.Second {
		t.Errorf("a flood was cut after %s", took)
	}
}

// floods has a guest flood the bus until it is cut, and returns how long that took.
func (s *site) floods(t *testing.T) time.Duration {
	t.Helper()
	instance := trove.NewID()
	a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	start, sent := time.Now(), 0
	for a.IsConnected() && time.Since(start) < 10*time.Second {
		for range 1000 {
			_ = a.Publish(guestapi.ReportSubject(instance, "hb"), []byte("x"))
		}
		sent += 1000
	}
	took := time.Since(start)
	t.Logf("cut after %s and %d messages", took.Round(time.Millisecond), sent)
	return took
}

// TestAFloodCostsNoReportOfANeighbour floods with reports of an ordinary size and lets nobody cut it: the controller's connection must keep up, and each report
// of a neighbour arrive.
func TestAFloodCostsNoReportOfANeighbour(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Limits = server.Limits{Messages: 1 << 30, Bytes: 1 << 40} })
	neighbour := trove.NewID()
	var got atomic.Int64
	stop, err := s.controller(t, "reports").Subscribe(t.Context(), guestapi.AllReports, guestapi.QueueConductor, func(_ context.Context, m bus.Message) {
		if instance, _, _ := guestapi.ParseReportSubject(m.Subject); instance == neighbour {
			got.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var floods sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		instance := trove.NewID()
		a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
		floods.Go(func() {
			report := bytes.Repeat([]byte("x"), 250)
			for {
				select {
				case <-ended:
					return
				default:
					_ = a.Publish(guestapi.ReportSubject(instance, "hb"), report)
				}
			}
		})
	}
	conn, sent := s.guest(t, neighbour), int64(0)
	for begin := time.Now(); time.Since(begin) < 3*time.Second && clock.Sleep(t.Context(), 2*time.Millisecond) == nil; {
		if err := conn.Publish(t.Context(), guestapi.ReportSubject(neighbour, guestapi.ReportHeartbeat), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	close(ended)
	floods.Wait()
	for end := time.Now().Add(patience); got.Load() < sent && time.Now().Before(end); {
		if clock.Sleep(t.Context(), 20*time.Millisecond) != nil {
			return
		}
	}
	if n := got.Load(); n != sent {
		t.Errorf("of %d reports of the neighbour %d arrived; %v were dropped at the controller", sent, n, s.metric(t, "trove_bus_dropped_messages", ""))
	}
	if n := s.metric(t, "trove_bus_slow_consumers_total", ""); n != 0 {
		t.Errorf("the broker cut %v connections that did not keep up", n)
	}
}
