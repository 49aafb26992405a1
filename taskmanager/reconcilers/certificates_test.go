package reconcilers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/engineca"
	"github.com/trove-dbaas/trove/store"
)

func (w *world) certificates(want ...string) {
	w.t.Helper()
	ids, err := w.Certificates.Candidates(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range ids {
		if err := w.Certificates.ReconcileOne(w.t.Context(), i); err != nil {
			w.t.Error(err)
		}
	}
	if diff := cmp.Diff(want, w.guests.certificates); diff != "" {
		w.t.Errorf("certificates that the guest got (-want +got):\n%s", diff)
	}
}

// TestCertificateIsGivenAndRenewed: once, then when it gets old, when the addresses change and when there is another authority.
func TestCertificateIsGivenAndRenewed(t *testing.T) {
	w := newWorld(t)
	addresses := []trove.Address{{Address: "10.0.0.9"}}
	w.change(func(i *trove.Instance) { i.Addresses, i.Hostname = addresses, "shop.example" })
	w.certificates() // nobody was heard of
	w.heartbeat()
	w.certificates("signed by a")
	want := engineca.Request{CSR: []byte("a request"), Instance: id, Hostname: "shop.example", Addresses: addresses}
	if diff := cmp.Diff(want, w.signer.asked[0]); diff != "" {
		t.Errorf("what was signed (-want +got):\n%s", diff)
	}
	w.certificates("signed by a")
	w.clock.Add(17 * time.Hour)
	w.heartbeat()
	w.certificates("signed by a", "signed by a")
	w.signer.authority = "b"
	w.certificates("signed by a", "signed by a", "signed by b")
	w.certificates("signed by a", "signed by a", "signed by b")
	w.tx(func(ctx context.Context, tx store.Tx) error { return tx.ForgetCertificate(ctx, id) })
	w.certificates("signed by a", "signed by a", "signed by b", "signed by b")
}

// TestCertificateOfAGuestThatIsAway: it is asked again after a while, not at once, and never while it is stopped.
func TestCertificateOfAGuestThatIsAway(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.guests.takesNone = bus.ErrNoResponder
	if err := w.Certificates.ReconcileOne(t.Context(), id); err == nil {
		t.Error("an error of an unknown kind is not told")
	}
	w.guests.takesNone = trove.Errorf(trove.KindUnavailable, "The guest agent is not connected.")
	w.clock.Add(11 * time.Minute)
	w.heartbeat()
	w.certificates()
	w.guests.takesNone = nil
	w.certificates()
	w.clock.Add(16 * time.Second)
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	w.certificates()
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerActive })
	w.clock.Add(2 * time.Minute)
	w.certificates()
	w.heartbeat()
	w.clock.Add(16 * time.Second)
	w.certificates("signed by a")
}

// TestCertificateOfADatabaseThatTakesNone: its agent may be replaced, so it is asked again, seldom.
func TestCertificateOfADatabaseThatTakesNone(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.guests.takesNone = trove.Errorf(trove.KindNotImplemented, "Not supported")
	w.certificates()
	w.guests.takesNone = nil
	w.clock.Add(30 * time.Minute)
	w.heartbeat()
	w.certificates()
	w.clock.Add(31 * time.Minute)
	w.heartbeat()
	w.certificates("signed by a")
}

// TestCertificateOfOtherNames: when the addresses change while it is made, another one follows.
func TestCertificateOfOtherNames(t *testing.T) {
	w := newWorld(t)
	w.heartbeat()
	w.signer.during = func() {
		w.signer.during = nil
		w.change(func(i *trove.Instance) { i.Addresses = []trove.Address{{Address: "10.0.0.10"}} })
	}
	w.certificates("signed by a")
	w.clock.Add(16 * time.Second)
	w.certificates("signed by a", "signed by a")
	if got := w.signer.asked[1].Addresses; len(got) != 1 {
		t.Errorf("the second one names %v", got)
	}
	if err := w.Certificates.ReconcileOne(t.Context(), other); err != nil {
		t.Errorf("an instance that is gone: %v", errors.Unwrap(err))
	}
}
