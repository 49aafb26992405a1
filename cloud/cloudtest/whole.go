package cloudtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

func (s *suite) catalog() {
	ctx := s.Context()
	seen := map[string]bool{}
	for _, f := range s.flavors() {
		if f.ID == "" || seen[f.ID] || f.RAM <= 0 || f.VCPUs <= 0 {
			s.Errorf("flavor %+v: want a unique id, memory and cores", f)
		}
		seen[f.ID] = true
		got, err := s.Provider.Flavor(ctx, cloud.AsService(), f.ID)
		s.must(err, "Flavor")
		if diff := cmp.Diff(f, got); diff != "" {
			s.Errorf("Flavor and Flavors differ (-list +one):\n%s", diff)
		}
	}
	_, err := s.Provider.Flavor(ctx, cloud.AsService(), "no-such-flavor")
	s.gone(err, "Flavor of an unknown id")

	types, err := s.Provider.VolumeTypes(ctx, cloud.AsService())
	s.must(err, "VolumeTypes")
	for _, v := range types {
		if v.ID == "" || v.Name == "" {
			s.Errorf("volume type %+v: want id and name", v)
		}
	}
	networks, err := s.Provider.TenantNetworks(ctx, cloud.Rights{Project: s.Project})
	s.must(err, "TenantNetworks")
	for _, n := range networks {
		if n.ID == "" || len(n.Subnets) == 0 {
			s.Errorf("tenant network %+v: want an id and subnets", n)
		}
	}
	s.ok(s.Provider.ImageExists(ctx, s.ImageID), "ImageExists")
	for _, id := range []string{trove.NewID(), "", "../" + s.ImageID} {
		s.gone(s.Provider.ImageExists(ctx, id), "ImageExists of "+id)
	}
}

func (s *suite) names() {
	id, ctx := s.id(), s.Context()
	n := s.network(s.networkSpec(id))
	first, err := s.Provider.EnsureName(ctx, id, n.Addresses)
	s.must(err, "EnsureName")
	second, err := s.Provider.EnsureName(ctx, id, n.Addresses)
	s.must(err, "EnsureName again")
	if first != second {
		s.Errorf("EnsureName returned %q and then %q", first, second)
	}
	for range 2 {
		s.ok(s.Provider.RemoveName(ctx, id), "RemoveName")
	}
}

func (s *suite) reopen() {
	id, ctx := s.id(), s.Context()
	machine := s.machine(id)
	volume, err := s.Provider.FindVolume(ctx, id)
	s.must(err, "FindVolume")
	network, err := s.Provider.FindNetwork(ctx, id)
	s.must(err, "FindNetwork")

	s.Provider = s.Reopen(s.T)
	m, err := s.Provider.FindMachine(ctx, id)
	s.must(err, "FindMachine by another provider")
	v, err := s.Provider.FindVolume(ctx, id)
	s.must(err, "FindVolume by another provider")
	n, err := s.Provider.FindNetwork(ctx, id)
	s.must(err, "FindNetwork by another provider")
	if diff := cmp.Diff([]any{machine, volume, network}, []any{m, v, n}); diff != "" {
		s.Errorf("another provider finds other things (-made +found):\n%s", diff)
	}
	again, err := s.Provider.EnsureMachine(ctx, s.machineSpec(id))
	s.must(err, "EnsureMachine by another provider")
	if diff := cmp.Diff([]any{machine, volume, network}, []any{again, s.volume(id, 1), s.network(s.networkSpec(id))}); diff != "" {
		s.Errorf("another provider makes other things (-made +ensured):\n%s", diff)
	}
	// What the first made the second removes, and the addresses are not given twice meanwhile.
	other := s.network(s.networkSpec(s.id()))
	if other.Addresses[0].Address == network.Addresses[0].Address {
		s.Errorf("another provider gave the address %s again", other.Addresses[0].Address)
	}
}

func (s *suite) lists() {
	ctx := s.Context()
	var before []string
	if s.Leftovers != nil {
		before = s.Leftovers(s.T)
	}
	ids := []string{s.id(), s.id()}
	for _, id := range ids {
		s.machine(id)
	}
	slices.Sort(ids)
	s.listed(ids)
	for _, id := range ids {
		s.must(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
		s.must(s.Provider.RemoveVolume(ctx, id), "RemoveVolume")
		s.must(s.Provider.RemoveNetwork(ctx, id), "RemoveNetwork")
	}
	s.listed(nil)
	if s.Leftovers == nil {
		return
	}
	if diff := cmp.Diff(before, s.Leftovers(s.T), cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("left over after all was removed (-before +after):\n%s", diff)
	}
}

func (s *suite) listed(want []string) {
	s.Helper()
	ctx := s.Context()
	var machines, volumes, networks []string
	all, err := s.Provider.Machines(ctx)
	s.must(err, "Machines")
	for _, m := range all {
		machines = append(machines, m.Instance)
	}
	vs, err := s.Provider.Volumes(ctx)
	s.must(err, "Volumes")
	for _, v := range vs {
		volumes = append(volumes, v.Instance)
	}
	ns, err := s.Provider.Networks(ctx)
	s.must(err, "Networks")
	for _, n := range ns {
		networks = append(networks, n.Instance)
	}
	for what, got := range map[string][]string{"Machines": machines, "Volumes": volumes, "Networks": networks} {
		slices.Sort(got)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			s.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

// halfMade removes all kinds of things of instances of which only some exist, as after a create that was killed.
func (s *suite) halfMade() {
	ctx := s.Context()
	nothing, volume, network, both := s.id(), s.id(), s.id(), s.id()
	s.volume(volume, 1)
	s.network(s.networkSpec(network))
	s.volume(both, 1)
	s.network(s.networkSpec(both))
	for _, id := range []string{nothing, volume, network, both} {
		s.ok(s.Provider.RemoveName(ctx, id), "RemoveName")
		s.ok(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
		s.ok(s.Provider.RemoveVolume(ctx, id), "RemoveVolume")
		s.ok(s.Provider.RemoveNetwork(ctx, id), "RemoveNetwork")
	}
	s.listed(nil)
}

func (s *suite) badIDs() {
	ctx, p := s.Context(), s.Provider
	for _, id := range []string{"", ".", "..", "../x", "/etc", "x", "a/b", strings.ToUpper(trove.NewID()), trove.NewID() + "/..", trove.NewID() + "\x00", "%s; true"} {
		_, err := p.EnsureVolume(ctx, s.volumeSpec(id, 1))
		s.refused(err, "EnsureVolume of "+id, trove.KindBadRequest)
		_, err = p.EnsureNetwork(ctx, s.networkSpec(id))
		s.refused(err, "EnsureNetwork of "+id, trove.KindBadRequest)
		_, err = p.EnsureMachine(ctx, s.machineSpec(id))
		s.refused(err, "EnsureMachine of "+id, trove.KindBadRequest)
		_, err = p.EnsureName(ctx, id, nil)
		s.refused(err, "EnsureName of "+id, trove.KindBadRequest)
		_, err = p.ResizeMachine(ctx, id, s.flavors()[1])
		s.refused(err, "ResizeMachine of "+id, trove.KindBadRequest)
		_, err = p.FindVolume(ctx, id)
		s.refused(err, "FindVolume of "+id, trove.KindBadRequest, trove.KindNotFound)
		_, err = p.FindNetwork(ctx, id)
		s.refused(err, "FindNetwork of "+id, trove.KindBadRequest, trove.KindNotFound)
		_, err = p.FindMachine(ctx, id)
		s.refused(err, "FindMachine of "+id, trove.KindBadRequest, trove.KindNotFound)
		s.refused(p.StopMachine(ctx, id), "StopMachine of "+id, trove.KindBadRequest)
		s.refused(p.RebootMachine(ctx, id), "RebootMachine of "+id, trove.KindBadRequest)
		s.refused(p.RemoveVolume(ctx, id), "RemoveVolume of "+id, trove.KindBadRequest)
		s.refused(p.RemoveNetwork(ctx, id), "RemoveNetwork of "+id, trove.KindBadRequest)
		s.refused(p.RemoveMachine(ctx, id), "RemoveMachine of "+id, trove.KindBadRequest)
		s.refused(p.RemoveName(ctx, id), "RemoveName of "+id, trove.KindBadRequest)
	}
	s.listed(nil)
}

func (s *suite) concurrent() {
	id := s.id()
	another := s.Reopen(s.T)
	volumes := atOnce(s, another, func(p cloud.Provider) (cloud.Volume, error) {
		v, err := p.EnsureVolume(s.Context(), s.volumeSpec(id, 1))
		v.Ready = true
		return v, err
	})
	networks := atOnce(s, another, func(p cloud.Provider) (cloud.Network, error) {
		n, err := p.EnsureNetwork(s.Context(), s.networkSpec(id))
		n.Ready = true
		return n, err
	})
	s.volume(id, 1)
	s.network(s.networkSpec(id))
	spec := s.machineSpec(id)
	machines := atOnce(s, another, func(p cloud.Provider) (string, error) {
		m, err := p.EnsureMachine(s.Context(), spec)
		return m.ID, err
	})
	for i := range volumes {
		if diff := cmp.Diff([]any{volumes[0], networks[0], machines[0]}, []any{volumes[i], networks[i], machines[i]}); diff != "" {
			s.Errorf("two things by calls at once (-first +another):\n%s", diff)
		}
	}
	s.running(id)
	s.listed([]string{id})
}

// atOnce calls f from several goroutines, half of them with another provider over the same state.
func atOnce[T any](s *suite, another cloud.Provider, f func(cloud.Provider) (T, error)) []T {
	s.Helper()
	results := make([]T, 8)
	errs := make([]error, len(results))
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range results {
		p := s.Provider
		if i%2 == 1 {
			p = another
		}
		wg.Go(func() {
			<-begin
			results[i], errs[i] = f(p)
		})
	}
	close(begin)
	wg.Wait()
	s.must(errors.Join(errs...), "calls at once")
	return results
}

func (s *suite) cancelled() {
	id, whole := s.id(), s.id()
	s.machine(whole)
	spec, larger := s.machineSpec(id), s.flavors()[1]
	s.volume(id, 1)
	s.network(s.networkSpec(id))
	fresh := s.id()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.Provider.EnsureVolume(ctx, s.volumeSpec(fresh, 1))
	s.isCancelled(err, "EnsureVolume")
	_, err = s.Provider.EnsureNetwork(ctx, s.networkSpec(fresh))
	s.isCancelled(err, "EnsureNetwork")
	_, err = s.Provider.EnsureMachine(ctx, spec)
	s.isCancelled(err, "EnsureMachine")
	s.isCancelled(s.Provider.StopMachine(ctx, whole), "StopMachine")
	_, err = s.Provider.ResizeMachine(ctx, whole, larger)
	s.isCancelled(err, "ResizeMachine")
	s.isCancelled(s.Provider.RemoveMachine(ctx, whole), "RemoveMachine")

	ctx = s.Context()
	_, err = s.Provider.FindVolume(ctx, fresh)
	s.gone(err, "FindVolume")
	_, err = s.Provider.FindNetwork(ctx, fresh)
	s.gone(err, "FindNetwork")
	_, err = s.Provider.FindMachine(ctx, id)
	s.gone(err, "FindMachine")
	m, err := s.Provider.FindMachine(ctx, whole)
	s.must(err, "FindMachine")
	if m.State != cloud.MachineRunning || m.FlavorID == larger.ID {
		s.Errorf("cancelled calls left the machine as %+v, want it running with its first flavor", m)
	}
}

func (s *suite) isCancelled(err error, what string) {
	s.Helper()
	if !errors.Is(err, context.Canceled) {
		s.Errorf("%s with a cancelled context: error %v, want context.Canceled", what, err)
	}
	if err != nil && trove.IsPermanent(err) {
		s.Errorf("%s with a cancelled context: the error is permanent", what)
	}
}
