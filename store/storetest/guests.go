package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func useToken(t *testing.T, s store.Store, hash, key string, now time.Time) (string, error) {
	t.Helper()
	var instance string
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		var err error
		instance, err = tx.UseEnrolmentToken(ctx, hash, key, now)
		return err
	})
	return instance, err
}

func testEnrolment(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	put := func(hash string, expires time.Time) {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutEnrolmentToken(ctx, i.ID, hash, expires) })
	}
	guest := func() store.Guest {
		t.Helper()
		g, err := s.Guest(t.Context(), i.ID)
		if err != nil {
			t.Fatalf("guest: %v", err)
		}
		return g
	}
	same(t, guest(), store.Guest{InstanceID: i.ID})

	put("first", Start.Add(time.Minute))
	put("second", Start.Add(time.Minute))
	_, err := useToken(t, s, "first", "key", Start)
	wantKind(t, err, trove.KindUnauthorized) // it was replaced
	_, err = useToken(t, s, "second", "key", Start.Add(time.Minute))
	wantKind(t, err, trove.KindUnauthorized) // it has expired
	same(t, guest().PublicKey, "")

	put("third", Start.Add(time.Minute))
	got, err := useToken(t, s, "third", "key", Start)
	if err != nil {
		t.Fatalf("use the token: %v", err)
	}
	same(t, got, i.ID)
	same(t, guest(), store.Guest{InstanceID: i.ID, PublicKey: "key", TokenUsed: Start})

	if owner, err := s.TokenOwner(t.Context(), "third"); err != nil || owner != i.ID {
		t.Errorf("the owner of a token that was used: %s, %v", owner, err)
	}
	_, err = s.TokenOwner(t.Context(), "second")
	wantKind(t, err, trove.KindNotFound)

	got, err = useToken(t, s, "third", "key", Start.Add(time.Minute))
	if err != nil || got != i.ID {
		t.Errorf("the same key asked again within a minute: %s, %v", got, err)
	}
	_, err = useToken(t, s, "third", "key", Start.Add(time.Minute+time.Second))
	wantKind(t, err, trove.KindConflict)
	_, err = useToken(t, s, "third", "other", Start.Add(time.Second))
	wantKind(t, err, trove.KindConflict)
	same(t, guest().PublicKey, "key")

	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.SetGuestCredential(ctx, i.ID, Start.Add(24*time.Hour))
	})
	same(t, guest().CredentialEnds, Start.Add(24*time.Hour))
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetGuestTrust(ctx, i.ID, "told") })
	same(t, guest().Trust, "told")
	put("fourth", Start.Add(time.Hour))
	if _, err = useToken(t, s, "fourth", "new key", Start.Add(time.Minute)); err != nil {
		t.Errorf("use the token of a rebuilt guest: %v", err)
	}
	same(t, guest().PublicKey, "new key")
	same(t, guest().Trust, "")

	for _, fn := range []func(context.Context, store.Tx) error{
		func(ctx context.Context, tx store.Tx) error { return tx.PutEnrolmentToken(ctx, "nope", "h", Start) },
		func(ctx context.Context, tx store.Tx) error { return tx.SetGuestCredential(ctx, "nope", Start) },
		func(ctx context.Context, tx store.Tx) error {
			return tx.SetServiceStatus(ctx, "nope", trove.ServiceHealthy, Start)
		},
	} {
		wantMissing(t, s.InTx(t.Context(), fn), "nope")
	}
	_, err = s.Guest(t.Context(), "nope")
	wantMissing(t, err, "nope")
}

func testEnrolmentConcurrent(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.PutEnrolmentToken(ctx, i.ID, "h", Start.Add(time.Hour))
	})
	var wg sync.WaitGroup
	var won atomic.Int64
	for n := range 8 {
		wg.Go(func() {
			_, err := useToken(t, s, "h", string(rune('a'+n)), Start)
			switch {
			case err == nil:
				won.Add(1)
			case trove.KindOf(err) != trove.KindConflict:
				t.Errorf("use: %v", err)
			}
		})
	}
	wg.Wait()
	same(t, won.Load(), 1)
}

func report(t *testing.T, s store.Store, rs ...store.GuestReport) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.RecordReports(ctx, rs) })
}

func testHeartbeats(t *testing.T, s store.Store) {
	a, b := Instance("p"), Instance("p")
	insert(t, s, a, b)
	at := Start.Add(time.Minute)
	report(t, s,
		store.GuestReport{InstanceID: "nope", SeenAt: at, Service: trove.ServiceHealthy},
		store.GuestReport{InstanceID: a.ID, SeenAt: at, BootID: "1", Service: trove.ServiceHealthy, AgentVersion: "v1", EngineStart: 5, VolumeUsed: 6, VolumeTotal: 7},
		store.GuestReport{InstanceID: b.ID, SeenAt: at, Service: trove.ServiceBuilding},
	)
	want := trove.GuestState{Service: trove.ServiceHealthy, SeenAt: at, BootID: "1", AgentVersion: "v1", VolumeUsed: 6, VolumeTotal: 7}
	before := get(t, s, a.ID)
	same(t, before.Guest, want)
	same(t, get(t, s, b.ID).Guest, trove.GuestState{Service: trove.ServiceBuilding, SeenAt: at})

	// What names the agent's start stays until an agent says it again; an event is noted by itself.
	report(t, s, store.GuestReport{InstanceID: a.ID, SeenAt: at, BootID: "1", Service: trove.ServiceHealthy, AgentVersion: "v1", VolumeUsed: 6, VolumeTotal: 7, AgentStart: 8})
	report(t, s, store.GuestReport{InstanceID: a.ID, SeenAt: at, BootID: "1", Service: trove.ServiceHealthy, AgentVersion: "v1", VolumeUsed: 6, VolumeTotal: 7})
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.SetGuestEvent(ctx, a.ID, 9) })
	want.AgentStart, want.EventAt = 8, 9
	before = get(t, s, a.ID)
	same(t, before.Guest, want)
	wantMissing(t, s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.SetGuestEvent(ctx, "nope", 9) }), "nope")

	// One that was overtaken by a later one changes nothing.
	report(t, s, store.GuestReport{InstanceID: a.ID, SeenAt: at.Add(-time.Second), BootID: "0", Service: trove.ServiceShutdown})
	same(t, get(t, s, a.ID), before)
	do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, b.ID, at) })
	report(t, s, store.GuestReport{InstanceID: b.ID, SeenAt: at.Add(time.Second), Service: trove.ServiceHealthy})
	deleted := true
	found, err := s.Instances(t.Context(), store.InstanceFilter{Deleted: &deleted})
	if err != nil || len(found) != 1 {
		t.Fatalf("deleted instances: %d, %v", len(found), err)
	}
	same(t, found[0].Guest, trove.GuestState{})
}

func testRestartRequired(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	now := Start
	say := func(boot string, started int64, st trove.ServiceStatus) trove.ServiceStatus {
		t.Helper()
		now = now.Add(10 * time.Second)
		report(t, s, store.GuestReport{InstanceID: i.ID, SeenAt: now, BootID: boot, EngineStart: started, Service: st})
		return get(t, s, i.ID).Guest.Service
	}
	require := func() {
		t.Helper()
		do(t, s, func(ctx context.Context, tx store.Tx) error {
			return tx.SetServiceStatus(ctx, i.ID, trove.ServiceRestartRequired, now)
		})
	}
	same(t, say("1", 100, trove.ServiceHealthy), trove.ServiceHealthy)
	require()
	same(t, say("1", 100, trove.ServiceHealthy), trove.ServiceRestartRequired)
	same(t, say("1", 100, trove.ServiceShutdown), trove.ServiceRestartRequired)
	same(t, get(t, s, i.ID).Guest.SeenAt, now) // the rest of the report is written
	same(t, say("1", 0, trove.ServiceShutdown), trove.ServiceRestartRequired)
	same(t, say("1", 200, trove.ServiceHealthy), trove.ServiceHealthy) // the engine was restarted
	require()
	same(t, say("1", 200, trove.ServiceHealthy), trove.ServiceRestartRequired)
	same(t, say("2", 0, trove.ServiceBuilding), trove.ServiceBuilding) // the machine was
}

// testBootReturns has boots of a machine follow each other, and come back.
func testBootReturns(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	for n, step := range []struct {
		boot string
		want int
	}{{"1", 0}, {"1", 0}, {"2", 0}, {"3", 0}, {"3", 0}, {"2", 1}, {"2", 1}, {"3", 2}, {"4", 2}, {"5", 2}, {"4", 3}} {
		report(t, s, store.GuestReport{InstanceID: i.ID, SeenAt: Start.Add(time.Duration(n) * time.Second), BootID: step.boot, Service: trove.ServiceHealthy})
		g, err := s.Guest(t.Context(), i.ID)
		if err != nil {
			t.Fatal(err)
		}
		if g.BootReturns != step.want || g.Copied() != (step.want >= 3) {
			t.Errorf("after report %d: %d returns, copied %v; want %d", n, g.BootReturns, g.Copied(), step.want)
		}
	}
}

func testServiceStatus(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	report(t, s, store.GuestReport{InstanceID: i.ID, SeenAt: Start, BootID: "1", Service: trove.ServiceHealthy})
	now := Start.Add(time.Minute)
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		return tx.SetServiceStatus(ctx, i.ID, trove.ServiceRestarting, now)
	})
	same(t, get(t, s, i.ID).Guest.Service, trove.ServiceRestarting)
	// What the guest said before does not count any more.
	report(t, s, store.GuestReport{InstanceID: i.ID, SeenAt: now.Add(-time.Second), BootID: "1", Service: trove.ServiceHealthy})
	same(t, get(t, s, i.ID).Guest.Service, trove.ServiceRestarting)
	report(t, s, store.GuestReport{InstanceID: i.ID, SeenAt: now.Add(time.Second), BootID: "1", Service: trove.ServiceHealthy})
	same(t, get(t, s, i.ID).Guest.Service, trove.ServiceHealthy)
}

func testReports(t *testing.T, s store.Store) {
	i := insert(t, s, Instance("p"))
	_, err := s.Report(t.Context(), "op/prepare")
	wantKind(t, err, trove.KindNotFound)
	r := store.Report{OperationID: "op/prepare", InstanceID: i.ID, At: Start, Sentence: "initialising", Percent: 10}
	end := store.Report{
		OperationID: "op/prepare", InstanceID: i.ID, At: Start.Add(time.Second), Done: true, Error: "no space on the volume",
		ErrorKind: trove.KindUnprocessable, Percent: 60, Result: []byte(`{"free":0}`),
	}
	late := r
	late.At, late.Percent = Start.Add(2*time.Second), 20
	other := end
	other.At, other.Error = Start.Add(3*time.Second), ""
	for _, c := range []struct{ put, want store.Report }{{r, r}, {end, end}, {late, end}, {other, end}} {
		do(t, s, func(ctx context.Context, tx store.Tx) error { return tx.PutReport(ctx, c.put) })
		got, err := s.Report(t.Context(), "op/prepare")
		if err != nil {
			t.Fatalf("report: %v", err)
		}
		same(t, got, c.want)
	}
	r.InstanceID = "another"
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return errors.Join(tx.PutReport(ctx, r)) })
	wantKind(t, err, trove.KindForbidden)
}
