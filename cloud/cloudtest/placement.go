package cloudtest

import (
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// placement looks at what a cloud knows of hosts, and moves a machine where it can.
func (s *suite) placement() {
	p, ok := s.Provider.(cloud.Placement)
	if !ok {
		return // it knows nothing of them
	}
	ctx, id := s.Context(), s.id()
	host, err := p.MachineHost(ctx, id)
	s.must(err, "MachineHost without a machine")
	if host != "" {
		s.Errorf("a machine that is not there is on %s", host)
	}
	s.machine(id)
	host, err = p.MachineHost(ctx, id)
	s.must(err, "MachineHost")
	m, mover := s.Provider.(cloud.Migrator)
	if err := p.Migratable(ctx, ""); err != nil || !mover {
		s.refused(err, "Migratable of a cloud that moves nothing", trove.KindNotImplemented)
		return
	}
	s.migration(id, host, m)
}

func (s *suite) migration(id, host string, m cloud.Migrator) {
	ctx := s.Context()
	s.refused(m.Migratable(ctx, "no-such-host"), "Migratable to a host that is none", trove.KindBadRequest)
	_, err := m.MigrateMachine(ctx, id, host, "no-such-host")
	s.refused(err, "MigrateMachine to a host that is none", trove.KindBadRequest)
	_, err = m.MigrateMachine(ctx, trove.NewID(), host, "")
	s.gone(err, "MigrateMachine without a machine")
	before, err := s.Provider.FindMachine(ctx, id)
	s.must(err, "FindMachine")
	for what, from := range map[string]string{"to where it is": host, "from where it is not": "no-such-host"} {
		if now, err := m.MigrateMachine(ctx, id, from, host); err != nil || now.State != cloud.MachineRunning || now.BootID != before.BootID {
			s.Errorf("MigrateMachine %s: a machine that was to stay was started afresh: %+v, %v", what, now, err)
		}
	}
	after := s.until("MigrateMachine", func() (cloud.Machine, error) { return m.MigrateMachine(ctx, id, host, "") })
	moved, err := m.MachineHost(ctx, id)
	s.must(err, "MachineHost after the move")
	if moved == host || moved == "" || after.ID != before.ID || before.BootID != "" && after.BootID == before.BootID {
		s.Errorf("after the move from %s it is on %s: %+v, before %+v", host, moved, after, before)
	}
	if again, err := m.MigrateMachine(ctx, id, host, ""); err != nil || again.BootID != after.BootID {
		s.Errorf("a machine that has moved away was moved again: %+v, %v", again, err)
	}
	// Another provider, as after a crash, carries on a move that this one has begun.
	_, err = m.MigrateMachine(ctx, id, moved, host)
	s.must(err, "MigrateMachine back")
	another, ok := s.Reopen(s.T).(cloud.Migrator)
	if !ok {
		s.Fatal("another provider cannot move machines")
	}
	s.until("MigrateMachine by another provider", func() (cloud.Machine, error) { return another.MigrateMachine(ctx, id, moved, host) })
	s.hosts(map[string]string{id: host})
	// What was begun is brought to its end by EnsureMachine too, which is what a migration that is given up calls.
	_, err = m.MigrateMachine(ctx, id, host, "")
	s.must(err, "MigrateMachine once more")
	s.ensured(s.machineSpec(id))
}

// hosts checks where machines are.
func (s *suite) hosts(want map[string]string) {
	s.Helper()
	p, ok := s.Provider.(cloud.Placement)
	if !ok {
		return
	}
	for id, host := range want {
		if got, err := p.MachineHost(s.Context(), id); err != nil || got != host {
			s.Errorf("the machine of %s is on %s and not on %s: %v", id, got, host, err)
		}
	}
	if many, ok := s.Provider.(cloud.PlacementOfMany); ok {
		ids := append(slices.Collect(maps.Keys(want)), trove.NewID())
		got, err := many.MachineHosts(s.Context(), ids)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			s.Errorf("MachineHosts: %v (-want +got):\n%s", err, diff)
		}
	}
}
