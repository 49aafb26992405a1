package cloudtest

import (
	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

func (s *suite) machineLife() {
	id, ctx := s.id(), s.Context()
	_, err := s.Provider.FindMachine(ctx, id)
	s.gone(err, "FindMachine before")

	first := s.machine(id)
	want := cloud.Machine{ID: first.ID, Instance: id, State: cloud.MachineRunning, FlavorID: s.flavors()[0].ID, ImageID: s.ImageID, BootID: first.BootID}
	if diff := cmp.Diff(want, first); diff != "" || first.ID == "" {
		s.Errorf("EnsureMachine (-want +got):\n%s", diff)
	}
	second, err := s.Provider.EnsureMachine(ctx, s.machineSpec(id))
	s.must(err, "EnsureMachine again")
	if diff := cmp.Diff(first, second); diff != "" {
		s.Errorf("EnsureMachine again is another machine (-first +second):\n%s", diff)
	}
	for range 2 {
		s.ok(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
		_, err = s.Provider.FindMachine(ctx, id)
		s.gone(err, "FindMachine after")
	}
	s.gone(s.Provider.StopMachine(ctx, id), "StopMachine without a machine")
	s.gone(s.Provider.RebootMachine(ctx, id), "RebootMachine without a machine")
	_, err = s.Provider.ResizeMachine(ctx, id, s.flavors()[1])
	s.gone(err, "ResizeMachine without a machine")

	// The volume and the network are still there, and a new machine takes them.
	if m := s.machine(id); m.BootID == first.BootID && m.BootID != "" {
		s.Errorf("a new machine has the boot id %s of the old one", m.BootID)
	}
}

func (s *suite) machineStartStop() {
	id, ctx := s.id(), s.Context()
	first := s.machine(id)
	for range 2 {
		s.must(s.Provider.StopMachine(ctx, id), "StopMachine")
		s.stopped(id)
	}
	_, err := s.Provider.FindVolume(ctx, id)
	s.ok(err, "FindVolume while the machine is stopped")

	started := s.ensured(s.machineSpec(id))
	s.sameMachineOtherBoot(first, started)

	s.must(s.Provider.RebootMachine(ctx, id), "RebootMachine")
	rebooted := s.running(id)
	s.sameMachineOtherBoot(started, rebooted)

	s.must(s.Provider.StopMachine(ctx, id), "StopMachine")
	s.stopped(id)
	s.must(s.Provider.RebootMachine(ctx, id), "RebootMachine of a stopped one")
	s.sameMachineOtherBoot(rebooted, s.running(id))
}

// stopped waits until the machine has stopped.
func (s *suite) stopped(id string) {
	s.Helper()
	s.eventually("a stopped machine", func() bool {
		m, err := s.Provider.FindMachine(s.Context(), id)
		s.must(err, "FindMachine")
		return m.State == cloud.MachineStopped
	})
}

func (s *suite) sameMachineOtherBoot(before, after cloud.Machine) {
	s.Helper()
	if before.BootID == after.BootID && before.BootID != "" {
		s.Errorf("boot id %s before and after a start", before.BootID)
	}
	before.BootID, after.BootID = "", ""
	if diff := cmp.Diff(before, after); diff != "" {
		s.Errorf("another machine after a start (-before +after):\n%s", diff)
	}
}

func (s *suite) machineResize() {
	id, ctx := s.id(), s.Context()
	s.machine(id)
	small, large := s.machineSpec(id), s.flavors()[1]
	for range 2 {
		resized := func() (cloud.Machine, error) { return s.Provider.ResizeMachine(ctx, id, large) }
		if m := s.until("ResizeMachine", resized); m.FlavorID != large.ID {
			s.Errorf("flavor %s after the resize, want %s", m.FlavorID, large.ID)
		}
	}
	m, err := s.Provider.EnsureMachine(ctx, small)
	s.must(err, "EnsureMachine with another flavor")
	if m.FlavorID != large.ID {
		s.Errorf("EnsureMachine changed the flavor to %s; only ResizeMachine may", m.FlavorID)
	}
	s.must(s.Provider.RebootMachine(ctx, id), "RebootMachine")
	if m := s.running(id); m.FlavorID != large.ID {
		s.Errorf("flavor %s after a reboot, want %s", m.FlavorID, large.ID)
	}
	_, err = s.Provider.ResizeMachine(ctx, id, trove.Flavor{ID: "0"})
	s.refused(err, "ResizeMachine to nothing", trove.KindBadRequest)
}

func (s *suite) badMachines() {
	id, ctx := s.id(), s.Context()
	s.volume(id, 1)
	s.network(s.networkSpec(id))
	wrong := s.machineSpec(id)
	wrong.ImageID = trove.NewID()
	_, err := s.Provider.EnsureMachine(ctx, wrong)
	s.refused(err, "EnsureMachine from an unknown image", trove.KindBadRequest, trove.KindNotFound)
	wrong = s.machineSpec(id)
	wrong.ImageID = "../../etc"
	_, err = s.Provider.EnsureMachine(ctx, wrong)
	s.refused(err, "EnsureMachine from a path", trove.KindBadRequest, trove.KindNotFound)
	wrong = s.machineSpec(id)
	wrong.Flavor.RAM = 0
	_, err = s.Provider.EnsureMachine(ctx, wrong)
	s.refused(err, "EnsureMachine without memory", trove.KindBadRequest)
	_, err = s.Provider.FindMachine(ctx, id)
	s.gone(err, "FindMachine after refused ones")
}
