package cloudtest

import (
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// grouped is the specification of the machine of an instance that is of the set of a primary, with the others.
func (s *suite) grouped(id, primary string, p cloud.Policy, all ...string) cloud.MachineSpec {
	spec := s.machineSpec(id)
	spec.Group = cloud.Group{ID: primary, Policy: p, Peers: slices.DeleteFunc(slices.Clone(all), func(peer string) bool { return peer == id })}
	return spec
}

// parts makes what a machine needs.
func (s *suite) parts(id string) {
	s.Helper()
	s.volume(id, 1)
	s.network(s.networkSpec(id))
}

// host returns where a machine is, "" where the cloud does not say.
func (s *suite) host(id string) string {
	s.Helper()
	p, ok := s.Provider.(cloud.Placement)
	if !ok {
		return ""
	}
	host, err := p.MachineHost(s.Context(), id)
	s.must(err, "MachineHost")
	return host
}

// refusedOrFailed makes a machine that has no place, and checks that this is said.
func (s *suite) refusedOrFailed(spec cloud.MachineSpec) {
	s.Helper()
	var reason string
	s.eventually("a machine that has no place", func() bool {
		m, err := s.Provider.EnsureMachine(s.Context(), spec)
		if err != nil {
			s.refused(err, "EnsureMachine without a place", trove.KindOverLimit, trove.KindNotImplemented)
			reason = trove.MessageOf(err)
			return true
		}
		if m.State == cloud.MachineRunning {
			s.Fatalf("the machine of %s runs on %s, where it may not be", spec.Instance, s.host(spec.Instance))
		}
		reason = m.Reason
		return m.State == cloud.MachineFailed
	})
	if !strings.Contains(reason, string(spec.Group.Policy)) {
		s.Errorf("a machine that has no place: %q does not say that %s is why", reason, spec.Group.Policy)
	}
	s.must(s.Provider.RemoveMachine(s.Context(), spec.Instance), "RemoveMachine of one that has no place")
}

// together makes a primary and a replica on one host, promotes the replica, and makes another one that follows it.
func (s *suite) together() {
	a, b, c := s.id(), s.id(), s.id()
	for _, id := range []string{a, b, c} {
		s.parts(id)
	}
	s.ensured(s.grouped(a, a, cloud.Affinity))
	s.ensured(s.grouped(b, a, cloud.Affinity, a))
	s.ensured(s.grouped(c, b, cloud.Affinity, b, a))
	want := s.host(a)
	s.hosts(map[string]string{a: want, b: want, c: want})
	// One that is made again is where the others are.
	s.must(s.Provider.RemoveMachine(s.Context(), b), "RemoveMachine")
	s.ensured(s.grouped(b, b, cloud.Affinity, a, c))
	s.hosts(map[string]string{b: want})
}

// apart makes a machine of a group on each host, and one more.
func (s *suite) apart() {
	hosts := s.Hosts
	if p, ok := s.Provider.(cloud.Migrator); hosts == 0 && ok && p.Migratable(s.Context(), "") == nil {
		hosts = 2 // at least
	}
	var ids []string
	for len(ids) < max(hosts, 1) {
		id := s.id()
		s.parts(id)
		// Each follows the one before, as after a promotion.
		s.ensured(s.grouped(id, append(ids, id)[max(len(ids)-1, 0)], cloud.AntiAffinity, ids...))
		ids = append(ids, id)
	}
	if s.Hosts > 0 {
		id := s.id()
		s.parts(id)
		s.refusedOrFailed(s.grouped(id, ids[0], cloud.AntiAffinity, ids...))
		s.stays(ids[0])
	}
	seen := map[string]string{}
	for _, id := range ids {
		if host := s.host(id); host != "" && seen[host] != "" {
			s.Errorf("the machines of %s and %s are both on %s", id, seen[host], host)
		} else {
			seen[host] = id
		}
	}
	// Alone it may be anywhere.
	alone := s.id()
	s.parts(alone)
	s.ensured(s.grouped(alone, alone, cloud.AntiAffinity))
}

// stays tries to move a machine that the others of its group leave no host.
func (s *suite) stays(id string) {
	m, ok := s.Provider.(cloud.Migrator)
	if s.Hosts < 2 || !ok {
		return
	}
	ctx, from := s.Context(), s.host(id)
	var err error
	s.eventually("a refused move", func() bool {
		_, err = m.MigrateMachine(ctx, id, from, "")
		return err != nil
	})
	s.refused(err, "MigrateMachine without a place", trove.KindOverLimit, trove.KindInternal)
	if !strings.Contains(trove.MessageOf(err), string(cloud.AntiAffinity)) {
		s.Errorf("MigrateMachine without a place: %q does not say why", trove.MessageOf(err))
	}
	s.running(id)
	s.hosts(map[string]string{id: from})
}

// groupLife looks at what there is of a group in the cloud: nothing after its last machine, whichever that is.
func (s *suite) groupLife() {
	ctx := s.Context()
	g, grouper := s.Provider.(cloud.Grouper)
	if s.Leftovers == nil || !grouper {
		return // nobody can see it
	}
	a, b := s.id(), s.id()
	s.parts(a)
	s.parts(b)
	before := s.Leftovers(s.T)
	s.must(g.RemoveGroup(ctx, a), "RemoveGroup of none")
	s.ensured(s.grouped(a, a, cloud.Affinity))
	s.ensured(s.grouped(b, a, cloud.Affinity, a))
	made := s.Leftovers(s.T)
	s.must(g.RemoveGroup(ctx, a), "RemoveGroup of one with machines")
	empty, err := g.EmptyGroups(ctx)
	s.must(err, "EmptyGroups")
	if diff := cmp.Diff(made, s.Leftovers(s.T)); diff != "" || slices.Contains(empty, a) {
		s.Errorf("a group with machines was removed, or counts as empty: %v (-before +after):\n%s", empty, diff)
	}
	s.must(s.Provider.RemoveMachine(ctx, a), "RemoveMachine of the first")
	s.ensured(s.grouped(a, a, cloud.Affinity, b))
	if got := s.Leftovers(s.T); len(got) != len(made) {
		s.Errorf("after one of two machines was made again there are\n%v\nand before\n%v", got, made)
	}
	for _, id := range []string{a, b} {
		s.must(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
	}
	if diff := cmp.Diff(before, s.Leftovers(s.T), cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("left over after the last machine of a group (-before +after):\n%s", diff)
	}
}

func (s *suite) badGroups() {
	id := s.id()
	s.parts(id)
	for _, bad := range []cloud.Group{
		{ID: id, Policy: "soft-affinity"}, {ID: "", Policy: cloud.Affinity}, {ID: "../x", Policy: cloud.Affinity}, {ID: id, Policy: cloud.Affinity, Peers: []string{"x"}},
	} {
		spec := s.machineSpec(id)
		spec.Group = bad
		_, err := s.Provider.EnsureMachine(s.Context(), spec)
		s.refused(err, "EnsureMachine in a group that is none", trove.KindBadRequest)
	}
	_, err := s.Provider.FindMachine(s.Context(), id)
	s.gone(err, "FindMachine after refused groups")
}
