package reconcilers_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// events returns the kinds of the instance's events with their counts.
func (w *world) events() map[string]int {
	w.t.Helper()
	all, err := w.store.InstanceEvents(w.t.Context(), id, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]int{}
	for _, e := range all {
		found[e.Kind] += e.Count
	}
	return found
}

func (w *world) wantEvents(want map[string]int) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.events()); diff != "" {
		w.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// says lets the guest report a status of its database.
func (w *world) says(s trove.ServiceStatus) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: w.clock.Now(), BootID: "b", Service: s, AgentVersion: "v"}})
	})
}

// TestVolumeGoneUnderARunningMachine: the database may go on with what it has open, but nobody may believe that all is well.
func TestVolumeGoneUnderARunningMachine(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.VanishVolume(id)
	for range 3 {
		w.clock.Add(time.Minute)
		w.heartbeat()
		w.once()
	}
	i := w.instance()
	if i.Status(false) != "ERROR" || i.Fault == nil || i.Fault.Message != "The data volume of the instance is gone." || w.state() != cloud.MachineRunning {
		t.Errorf("status %s, fault %+v, machine %s", i.Status(false), i.Fault, w.state())
	}
	w.wantEvents(map[string]int{trove.EventVolumeGone: 1})
	w.cloud.CrashMachine(id, "its disk is gone")
	w.once()
	if _, err := w.cloud.FindVolume(t.Context(), id); !trove.IsNotFound(err) || w.state() == cloud.MachineRunning {
		t.Errorf("the volume: %v, the machine is %s", err, w.state())
	}
	w.cloud.ReturnVolume(id) // the pool was only not mounted
	w.once()
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" || i.Fault != nil || w.state() != cloud.MachineRunning {
		t.Errorf("status %s, fault %+v, machine %s", i.Status(false), i.Fault, w.state())
	}
	w.wantEvents(map[string]int{trove.EventVolumeGone: 1, trove.EventVolumeBack: 1, trove.EventMachineRevived: 1})
}

// TestVolumeGoneOfAStoppedInstance: it stays stopped, with a fault, and is started by nobody when the volume is there again.
func TestVolumeGoneOfAStoppedInstance(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	if err := w.cloud.StopMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	w.cloud.VanishVolume(id)
	w.once()
	w.once()
	if i := w.instance(); i.Status(false) != "SHUTDOWN" || i.Fault == nil {
		t.Errorf("status %s, fault %+v", i.Status(false), i.Fault)
	}
	w.cloud.ReturnVolume(id)
	w.once()
	if i := w.instance(); i.Status(false) != "SHUTDOWN" || i.Fault != nil || w.state() != cloud.MachineStopped {
		t.Errorf("status %s, fault %+v, machine %s", i.Status(false), i.Fault, w.state())
	}
	w.wantEvents(map[string]int{trove.EventVolumeGone: 1, trove.EventVolumeBack: 1})
}

// TestMachineThatEndsAgainAndAgain is started at once, and then after longer and longer pauses.
func TestMachineThatEndsAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	starts := 0
	for range 40 { // ten minutes of looks
		w.cloud.CrashMachine(id, "ended")
		w.once()
		if w.state() == cloud.MachineRunning {
			starts++
		}
		w.clock.Add(15 * time.Second)
	}
	if starts < 4 || starts > 8 {
		t.Errorf("it was started %d times in ten minutes", starts)
	}
	w.clock.Add(time.Hour)
	w.cloud.CrashMachine(id, "ended")
	w.once()
	if w.state() != cloud.MachineRunning {
		t.Error("after an hour in peace it was not started at once")
	}
}

// TestDatabaseThatDoesNotGetUp is said once, and its end too; one that is up again after seconds is no event of its own.
func TestDatabaseThatDoesNotGetUp(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.says(trove.ServiceCrashed)
	w.once()
	w.clock.Add(20 * time.Second)
	w.says(trove.ServiceHealthy)
	w.once()
	w.wantEvents(map[string]int{})
	for range 10 {
		w.says(trove.ServiceCrashed)
		w.once()
		w.clock.Add(20 * time.Second)
	}
	w.wantEvents(map[string]int{trove.EventEngineDown: 1})
	if i := w.instance(); i.OperatingStatus(w.clock.Now()) != "SHUTDOWN" || i.Status(false) != "ACTIVE" {
		t.Errorf("operating status %s", i.OperatingStatus(w.clock.Now()))
	}
	w.says(trove.ServiceHealthy)
	w.once()
	w.once()
	w.wantEvents(map[string]int{trove.EventEngineDown: 1, trove.EventEngineBack: 1})
}

// TestSilenceIsAnEvent is so when the control plane was there to listen.
func TestSilenceIsAnEvent(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.guests.silent = true
	w.once() // it was never heard of, but nobody listened until now
	w.wantEvents(map[string]int{})
	w.clock.Add(trove.HeartbeatExpiry + time.Second)
	w.once()
	w.once()
	w.wantEvents(map[string]int{trove.EventGuestSilent: 1})
	if i := w.instance(); i.OperatingStatus(w.clock.Now()) != "ERROR" {
		t.Errorf("operating status %s", i.OperatingStatus(w.clock.Now()))
	}
	w.heartbeat()
	w.once()
	w.wantEvents(map[string]int{trove.EventGuestSilent: 1, trove.EventGuestBack: 1})
}
