package cloudtest

import (
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
	s.refused(p.Migratable(ctx, "no-such-host"), "Migratable to a host that is none", trove.KindBadRequest)
	s.refused(m.MigrateMachine(ctx, id, "no-such-host"), "MigrateMachine to a host that is none", trove.KindBadRequest)
	s.gone(m.MigrateMachine(ctx, trove.NewID(), ""), "MigrateMachine without a machine")
	before, err := s.Provider.FindMachine(ctx, id)
	s.must(err, "FindMachine")
	s.must(m.MigrateMachine(ctx, id, host), "MigrateMachine to where it is")
	if now, err := s.Provider.FindMachine(ctx, id); err != nil || now.BootID != before.BootID {
		s.Errorf("a machine that was to stay was started afresh: %+v, %v", now, err)
	}
	s.must(m.MigrateMachine(ctx, id, ""), "MigrateMachine")
	after := s.running(id)
	moved, err := p.MachineHost(ctx, id)
	s.must(err, "MachineHost after the move")
	if moved == host || moved == "" || after.ID != before.ID || before.BootID != "" && after.BootID == before.BootID {
		s.Errorf("after the move from %s it is on %s: %+v, before %+v", host, moved, after, before)
	}
	s.must(m.MigrateMachine(ctx, id, host), "MigrateMachine back")
	s.running(id)
	if back, err := p.MachineHost(ctx, id); err != nil || back != host {
		s.Errorf("it is on %s and not on %s: %v", back, host, err)
	}
}
