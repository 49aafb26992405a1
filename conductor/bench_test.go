package conductor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// BenchmarkHeartbeats is one heartbeat of one of 10,000 guests from the message to the row, over SQLite that waits for the disk. The clock moves
// by what 10,000 guests need for their heartbeats, so that budgets hold.
func BenchmarkHeartbeats(b *testing.B) {
	const fleet = 10000
	s, err := sqlstore.Open(b.Context(), sqlstore.Config{Path: b.TempDir() + "/store.db"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	subjects := make([]string, fleet)
	err = s.InTx(b.Context(), func(ctx context.Context, tx store.Tx) error {
		for n := range fleet {
			id := fmt.Sprintf("11111111-1111-4111-8111-%012x", n)
			subjects[n] = guestapi.ReportSubject(id, guestapi.ReportHeartbeat)
			if err := tx.InsertInstance(ctx, trove.Instance{ID: id, ProjectID: "p", Name: id, ServerID: uint32(n + 1)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	now := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	c, err := conductor.New(conductor.Config{
		Store: s, Conn: membus.New().Conn("conductor"), Clock: now, Log: slog.New(slog.DiscardHandler), Wake: func() {},
	})
	if err != nil {
		b.Fatal(err)
	}
	data, err := json.Marshal(beat(trove.ServiceHealthy))
	if err != nil {
		b.Fatal(err)
	}
	f := conductor.NewFeeder(c)
	for _, subject := range subjects { // the first of each tells something new
		f.Receive(b.Context(), subject, data)
	}
	f.Flush(b.Context())
	n := 0
	for b.Loop() {
		f.Receive(b.Context(), subjects[n%fleet], data)
		if n++; n%fleet == 0 {
			now.Add(10 * time.Second)
		}
	}
	f.Flush(b.Context())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "heartbeats/s")
}
