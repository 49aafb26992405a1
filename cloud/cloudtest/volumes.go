package cloudtest

import (
	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
)

func (s *suite) volumeLife() {
	id, ctx := s.id(), s.Context()
	_, err := s.Provider.FindVolume(ctx, id)
	s.gone(err, "FindVolume before")

	first := s.volume(id, 1)
	if first.ID == "" || first.Instance != id || first.SizeGiB != 1 {
		s.Errorf("EnsureVolume: %+v, want an id, instance %s and 1 GiB", first, id)
	}
	second := s.volume(id, 1)
	if diff := cmp.Diff(first, second); diff != "" {
		s.Errorf("EnsureVolume again is another volume (-first +second):\n%s", diff)
	}
	found, err := s.Provider.FindVolume(ctx, id)
	s.must(err, "FindVolume")
	if diff := cmp.Diff(first, found); diff != "" {
		s.Errorf("FindVolume finds another volume (-made +found):\n%s", diff)
	}
	for range 2 {
		s.ok(s.Provider.RemoveVolume(ctx, id), "RemoveVolume")
		_, err = s.Provider.FindVolume(ctx, id)
		s.gone(err, "FindVolume after")
	}
}

func (s *suite) volumeSizes() {
	id, ctx := s.id(), s.Context()
	s.volume(id, 1)
	grown := s.volume(id, 2)
	if grown.SizeGiB != 2 {
		s.Errorf("grown volume has %d GiB, want 2", grown.SizeGiB)
	}
	for _, size := range []int{1, 0, -1} {
		_, err := s.Provider.EnsureVolume(ctx, s.volumeSpec(id, size))
		s.refused(err, "EnsureVolume with a smaller size", trove.KindBadRequest)
	}
	found, err := s.Provider.FindVolume(ctx, id)
	s.must(err, "FindVolume")
	if diff := cmp.Diff(grown, found); diff != "" {
		s.Errorf("the refused sizes changed the volume (-before +after):\n%s", diff)
	}

	other := s.id()
	for _, size := range []int{0, -1} {
		_, err := s.Provider.EnsureVolume(ctx, s.volumeSpec(other, size))
		s.refused(err, "EnsureVolume without a size", trove.KindBadRequest)
	}
	wrong := s.volumeSpec(other, 1)
	wrong.Type = "no-such-type"
	_, err = s.Provider.EnsureVolume(ctx, wrong)
	s.refused(err, "EnsureVolume of an unknown type", trove.KindBadRequest, trove.KindNotFound)
	_, err = s.Provider.FindVolume(ctx, other)
	s.gone(err, "FindVolume after refused ones")
}

func (s *suite) volumePool() {
	if s.PoolGiB == 0 {
		s.Skip("the setup has no pool that can be full")
	}
	id, ctx := s.id(), s.Context()
	_, err := s.Provider.EnsureVolume(ctx, s.volumeSpec(id, s.PoolGiB))
	s.refused(err, "EnsureVolume larger than the pool", trove.KindOverLimit)
	_, err = s.Provider.FindVolume(ctx, id)
	s.gone(err, "FindVolume after a full pool")

	small := s.volume(id, 1)
	_, err = s.Provider.EnsureVolume(ctx, s.volumeSpec(id, s.PoolGiB))
	s.refused(err, "growing a volume beyond the pool", trove.KindOverLimit)
	found, err := s.Provider.FindVolume(ctx, id)
	s.must(err, "FindVolume")
	if diff := cmp.Diff(small, found); diff != "" {
		s.Errorf("the full pool changed the volume (-before +after):\n%s", diff)
	}
	all, err := s.Provider.Volumes(ctx)
	s.must(err, "Volumes")
	if len(all) != 1 || all[0].Instance != id {
		s.Errorf("Volumes = %+v, want the one of %s", all, id)
	}
}
