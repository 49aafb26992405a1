package cloudtest

import trove "github.com/trove-dbaas/trove"

// previousImage: a machine sees a previous image from the start that asked for it until the next one, and the call that finds it running changes nothing.
func (s *suite) previousImage() {
	id, ctx := s.id(), s.Context()
	want := func(when, image string) {
		s.Helper()
		m, err := s.Provider.FindMachine(ctx, id)
		s.must(err, "FindMachine")
		if m.PreviousImageID != image {
			s.Errorf("%s the machine sees the previous image %q, want %q", when, m.PreviousImageID, image)
		}
	}
	s.machine(id)
	want("without one", "")
	with := s.machineSpec(id)
	with.PreviousImageID = s.ImageID
	_, err := s.Provider.EnsureMachine(ctx, with)
	s.must(err, "EnsureMachine of a running one")
	want("while it runs", "")
	s.must(s.Provider.StopMachine(ctx, id), "StopMachine")
	s.stopped(id)
	s.ensured(with)
	want("started with one", s.ImageID)
	_, err = s.Provider.EnsureMachine(ctx, s.machineSpec(id))
	s.must(err, "EnsureMachine of a running one")
	want("while it runs on", s.ImageID)
	s.must(s.Provider.RebootMachine(ctx, id), "RebootMachine")
	s.running(id)
	want("after a reboot", "")

	s.must(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
	s.ensured(with)
	want("made with one", s.ImageID)
	s.must(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
	with.PreviousImageID = "no-such-image"
	_, err = s.Provider.EnsureMachine(ctx, with)
	s.refused(err, "EnsureMachine with a previous image that is not there", trove.KindBadRequest)
}
