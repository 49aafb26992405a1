package reconcilers_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

func TestSilenceIsNotedOnce(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.guests.silent = true
	w.once()
	if w.guests.pings != 0 {
		t.Error("a guest that reports was asked")
	}
	w.clock.Add(trove.HeartbeatExpiry + time.Second)
	w.once()
	w.once()
	if n := strings.Count(w.log.String(), "guest was silent"); n != 1 || w.guests.pings != 1 {
		t.Errorf("noted %d times, asked %d times", n, w.guests.pings)
	}
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine of a silent guest is %s", got)
	}
	w.heartbeat()
	w.once()
	if !strings.Contains(w.log.String(), "guest was heard of again") {
		t.Error("the end of the silence was not noted")
	}
}

func TestCredentialIsRenewedAtHalfLife(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 0 {
		t.Fatal("a fresh credential was renewed")
	}
	w.clock.Add(12*time.Hour + time.Minute)
	w.heartbeat()
	w.guests.refusing = true
	w.credentials()
	if g, err := w.store.Guest(t.Context(), id); err != nil || g.CredentialEnds.Sub(w.clock.Now()) > 12*time.Hour {
		t.Errorf("a credential that the guest did not take was noted: %+v, %v", g, err)
	}
	w.guests.refusing = false
	w.credentials()
	w.credentials()
	want := []bus.Credential{{JWT: id + "/KEY", Expires: w.clock.Now().Add(24 * time.Hour)}}
	if diff := cmp.Diff(want, w.guests.handed); diff != "" {
		t.Errorf("handed to the guest (-want +got):\n%s", diff)
	}
	if g, err := w.store.Guest(t.Context(), id); err != nil || !g.CredentialEnds.Equal(want[0].Expires) {
		t.Errorf("noted %+v, %v", g, err)
	}
}

// TestCredentialIsRenewedWhenThereIsNews has the issuer tell of another address.
func TestCredentialIsRenewedWhenThereIsNews(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.heartbeat()
	w.issuer.address = "192.0.2.1:4222"
	w.credentials()
	if n := len(w.guests.handed); n != 1 {
		t.Fatalf("%d credentials were handed out, want 1", n)
	}
	g, err := w.store.Guest(t.Context(), id)
	if err != nil || g.Trust != w.guests.handed[0].Trust() {
		t.Errorf("noted %+v, %v", g, err)
	}
	w.credentials()
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if n := len(w.guests.handed); n != 1 {
		t.Errorf("%d credentials were handed out without news", n)
	}
}

// boots has reports of these boots come in, one after the other.
func (w *world) boots(all ...string) {
	for _, boot := range all {
		w.clock.Add(time.Second)
		w.tx(func(ctx context.Context, tx store.Tx) error {
			return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: w.clock.Now(), BootID: boot, Service: trove.ServiceHealthy}})
		})
	}
}

// TestAGuestIsRenewedAfterALateReportOfTheBootBefore: a conductor that hung for a while hears what the machine said before it was restarted.
func TestAGuestIsRenewedAfterALateReportOfTheBootBefore(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.boots("a", "b", "a", "b", "b")
	w.clock.Add(13 * time.Hour)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 1 {
		t.Errorf("%d credentials were handed out, want 1; the log:\n%s", len(w.guests.handed), w.log)
	}
}

// TestACopiedMachineIsNotRenewed has two machines report in turn.
func TestACopiedMachineIsNotRenewed(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.boots("a", "b", "a", "b", "a")
	w.clock.Add(13 * time.Hour)
	w.heartbeat()
	w.credentials()
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 0 || strings.Count(w.log.String(), "alarm: two machines") != 1 {
		t.Errorf("%d credentials were handed out; the log:\n%s", len(w.guests.handed), w.log)
	}
	if err := w.store.ClearGuest(t.Context(), id, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 1 {
		t.Errorf("%d credentials were handed out after the copy was removed, want 1", len(w.guests.handed))
	}
}
