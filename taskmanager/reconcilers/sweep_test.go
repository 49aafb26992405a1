package reconcilers_test

import (
	"context"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
)

// lists counts how often the cloud is asked for all that it has, and for one thing.
type lists struct {
	*fake.Cloud
	all, one int
}

func (l *lists) Machines(ctx context.Context) ([]cloud.Machine, error) {
	l.all++
	return l.Cloud.Machines(ctx)
}

func (l *lists) Volumes(ctx context.Context) ([]cloud.Volume, error) {
	l.all++
	return l.Cloud.Volumes(ctx)
}

func (l *lists) Networks(ctx context.Context) ([]cloud.Network, error) {
	l.all++
	return l.Cloud.Networks(ctx)
}

func (l *lists) EmptyGroups(ctx context.Context) ([]string, error) {
	l.all++
	return l.Cloud.EmptyGroups(ctx)
}

func (l *lists) FindMachine(ctx context.Context, id string) (cloud.Machine, error) {
	l.one++
	return l.Cloud.FindMachine(ctx, id)
}

func TestCloudIsListedOnceInASweep(t *testing.T) {
	w := newSweepingWorld(t, 5*time.Minute)
	w.make(id)
	for range 10 { // half a minute apart: the last one is due again
		w.heartbeat()
		w.once()
		w.clock.Add(30 * time.Second)
	}
	if w.lists.all != 4 || w.lists.one != 0 {
		t.Errorf("within a sweep of a healthy instance there were %d lists and %d looks, want one each of machines, volumes, networks and groups", w.lists.all, w.lists.one)
	}
	w.heartbeat()
	w.once()
	if w.lists.all != 8 {
		t.Errorf("after five minutes there were %d lists", w.lists.all)
	}
}

func TestMachineOfASilentGuestIsLookedAtBetweenSweeps(t *testing.T) {
	w := newSweepingWorld(t, time.Hour)
	w.make(id)
	w.heartbeat()
	w.once()
	if err := w.cloud.StopMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Second)
	w.once()
	if got := w.state(); got != cloud.MachineStopped {
		t.Fatalf("the machine is %s before its guest is silent: this tests nothing", got)
	}
	w.clock.Add(trove.HeartbeatExpiry + time.Second)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine of a silent guest is %s", got)
	}
	if w.lists.all != 4 {
		t.Errorf("there were %d lists", w.lists.all)
	}
}

func TestLeftoversGoBetweenSweeps(t *testing.T) {
	w := newSweepingWorld(t, 25*time.Hour)
	w.make(id)
	w.make(other)
	w.heartbeat()
	w.once()
	w.clock.Add(24*time.Hour + time.Minute)
	w.heartbeat()
	w.once()
	if left := w.left(other); len(left) > 0 {
		t.Errorf("left without an owner: %v", left)
	}
	if left := w.left(id); len(left) == 0 {
		t.Error("what has an owner was removed")
	}
	if w.lists.all != 4 {
		t.Errorf("there were %d lists", w.lists.all)
	}
}

func TestManyThingsAreListedMoreSeldom(t *testing.T) {
	w := newSweepingWorld(t, time.Second)
	for range 10 {
		w.make(trove.NewID())
	}
	w.make(id)
	w.heartbeat()
	w.once()
	w.clock.Add(21 * time.Second) // of eleven machines and as many volumes each counts a second
	w.heartbeat()
	w.once()
	if w.lists.all != 4 {
		t.Errorf("22 things were listed again after 21 s: %d lists", w.lists.all)
	}
	w.clock.Add(time.Second)
	w.once()
	if w.lists.all != 8 {
		t.Errorf("22 things were not listed again after 22 s: %d lists", w.lists.all)
	}
}
