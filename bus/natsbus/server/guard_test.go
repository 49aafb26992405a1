package server_test

import (
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

func TestOfManyConnectionsTwoRemain(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	const n = 20
	all := make([]*attacker, 0, n)
	for range n {
		all = append(all, v.attack(t))
	}
	count := func() int {
		open := 0
		for _, a := range all {
			if a.IsConnected() {
				open++
			}
		}
		return open
	}
	eventually(t, "two connections to remain", func() bool { return count() == 2 })
	if !all[n-1].IsConnected() || !all[n-2].IsConnected() {
		t.Error("not the newest two remained")
	}
}

func TestGuestsThatAreNoLongerWelcomeAreCut(t *testing.T) {
	s := start(t)
	gone, renewed := trove.NewID(), trove.NewID()
	goneGuest := s.steal(t, s.enrolled(t, gone), gone)
	renewedGuest := s.steal(t, s.enrolled(t, renewed), renewed)
	s.guests.remove(gone)
	s.guests.setKey(renewed, "another")
	for name, v := range map[string]*stolen{"of a deleted instance": goneGuest, "with an old key": renewedGuest} {
		if a, err := v.tryAttack(t); err == nil {
			eventually(t, "a guest "+name+" to be cut", func() bool { return !a.IsConnected() })
		}
	}
}

func TestTheGuardCountsGuestsThatCameBeforeIt(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	first := v.attack(t)
	v.attack(t)
	s.guest(t, trove.NewID())
	s.controller(t, "requests")
	if n, err := s.AdoptAgain(); err != nil || n != 3 {
		t.Fatalf("the guard knows %d guests, %v, want 3", n, err)
	}
	v.attack(t)
	eventually(t, "the oldest of three connections to be cut", func() bool { return !first.IsConnected() })
}

// TestRefusalsAreCountedAndLogged makes the broker refuse a subject, and looks where an operator would.
func TestRefusalsAreCountedAndLogged(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	refused := func(reason string) float64 {
		families, err := s.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "trove_bus_refusals_total" && m.GetLabel()[0].GetValue() == reason {
					return m.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	other := guestapi.CommandSubject(trove.NewID())
	if _, err := s.AdoptAgain(); err != nil { // the log names who the guard knows; the event of the connect may be on its way
		t.Fatal(err)
	}
	if err := a.Publish(other, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SubscribeSync(other); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both refusals to be counted", func() bool { return refused("publish") == 1 && refused("subscribe") == 1 })
	eventually(t, "the log to name the guest and the subject", func() bool {
		for line := range strings.Lines(s.log.String()) {
			if strings.Contains(line, "broker refused a client") && strings.Contains(line, instance) && strings.Contains(line, other) {
				return true
			}
		}
		return false
	})
}
