package reconcilers_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

const groupID = "44444444-4444-4444-8444-444444444444"

// late makes an instance whose guest is to be told the group.
func (w *world) late(values string) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		c := trove.Configuration{ID: groupID, ProjectID: "p", Name: "g", DatastoreVersionID: versionID}
		if err := json.Unmarshal([]byte(values), &c.Values); err != nil {
			return err
		}
		if err := tx.InsertConfiguration(ctx, c); err != nil {
			return err
		}
		_, err := tx.BeginConfiguration(ctx, id, w.clock.Now(), w.clock.Now())
		return err
	})
	w.change(func(i *trove.Instance) { i.ConfigurationID = groupID })
	w.heartbeat()
}

// candidates returns how many guests are to be told now.
func (w *world) candidates() int {
	w.t.Helper()
	ids, err := w.Configurations.Candidates(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(ids)
}

func (w *world) reconcileConfiguration(fails bool) trove.Instance {
	w.t.Helper()
	if err := w.Configurations.ReconcileOne(w.t.Context(), id); (err != nil) != fails {
		w.t.Fatalf("ReconcileOne() = %v", err)
	}
	i, err := w.store.Instance(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func TestGuestIsToldWhatItMissed(t *testing.T) {
	w := newWorld(t)
	w.late(`{"Static_Things":5}`)
	w.guests.answer = guestapi.ConfigurationApplied{Restart: []string{"static_things"}}
	if n := w.candidates(); n != 1 {
		t.Fatalf("%d guests are to be told, want 1", n)
	}
	i := w.reconcileConfiguration(false)
	if len(w.guests.told) != 1 || string(w.guests.told[0].Overrides["static_things"]) != "5" || w.guests.told[0].Revision == 0 {
		t.Errorf("the guest was told %v", w.guests.told)
	}
	if i.Task != trove.TaskRestartRequired || w.candidates() != 0 {
		t.Errorf("the task is %v, %d guests are to be told", i.Task, w.candidates())
	}
}

func TestGuestThatIsAwayIsAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.late(`{}`)
	w.guests.tell = trove.Errorf(trove.KindUnavailable, "away")
	w.reconcileConfiguration(false)
	if n := w.candidates(); n != 0 {
		t.Error("it is asked again at once")
	}
	w.clock.Add(15 * time.Second)
	if n := w.candidates(); n != 1 {
		t.Error("it is forgotten")
	}
	w.guests.tell = nil
	w.reconcileConfiguration(false)
	w.clock.Add(time.Hour)
	if n := w.candidates(); n != 0 {
		t.Error("it is told again and again")
	}
}

// TestSilentGuestIsNotAsked: each question would last as long as a guest may take.
func TestSilentGuestIsNotAsked(t *testing.T) {
	w := newWorld(t)
	w.late(`{}`)
	w.clock.Add(time.Minute)
	w.reconcileConfiguration(false)
	if len(w.guests.told) != 0 {
		t.Error("it was asked")
	}
	w.heartbeat()
	w.clock.Add(15 * time.Second)
	w.reconcileConfiguration(false)
	if len(w.guests.told) != 1 {
		t.Error("it was not told when it was heard of again")
	}
}

func TestRefusedConfigurationIsSaid(t *testing.T) {
	w := newWorld(t)
	w.late(`{"a":1}`)
	w.guests.tell = trove.Errorf(trove.KindBadRequest, "The database refuses the value of the parameter a: no.")
	w.reconcileConfiguration(true)
	events, err := w.store.InstanceEvents(t.Context(), id, 0, 0)
	if err != nil || len(events) != 1 || events[0].Kind != trove.EventConfigurationRefused {
		t.Fatalf("the events are %v, %v", events, err)
	}
	w.clock.Add(9 * time.Minute)
	if w.candidates() != 0 {
		t.Error("it is tried again too soon")
	}
	w.clock.Add(time.Minute)
	if w.candidates() != 1 {
		t.Error("it is forgotten")
	}
}

func TestInstanceAtWorkIsToldAfterwards(t *testing.T) {
	w := newWorld(t)
	w.late(`{}`)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskResizing })
	if w.reconcileConfiguration(false); len(w.guests.told) != 0 {
		t.Error("it was told in the middle of an operation")
	}
	w.change(func(i *trove.Instance) { i.Task = trove.TaskNone })
	w.clock.Add(time.Minute)
	if w.candidates() != 1 {
		t.Error("it is forgotten")
	}
}

func TestChangeDuringTheTellingIsToldToo(t *testing.T) {
	w := newWorld(t)
	w.late(`{"a":1}`)
	w.guests.during = func() {
		c, err := w.store.Configuration(t.Context(), groupID)
		if err != nil {
			t.Error(err)
		}
		c.Values = map[string]json.RawMessage{"a": json.RawMessage("2")}
		w.tx(func(ctx context.Context, tx store.Tx) error { return tx.UpdateConfiguration(ctx, c, w.clock.Now()) })
	}
	w.reconcileConfiguration(false)
	w.guests.during = nil
	w.clock.Add(time.Minute)
	w.heartbeat()
	if w.candidates() != 1 {
		t.Fatal("the guest has an old value, and nobody tells it")
	}
	w.reconcileConfiguration(false)
	if last := w.guests.told[len(w.guests.told)-1]; string(last.Overrides["a"]) != "2" {
		t.Errorf("it was told %v", w.guests.told)
	}
}
