package fake

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

var _ cloud.Migrator = (*Cloud)(nil)

// MachineHost is cloud.Placement.MachineHost.
func (c *Cloud) MachineHost(ctx context.Context, instance string) (string, error) {
	return call(ctx, c, "MachineHost", &instance, func() (string, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return "", nil, nil
		}
		return m.host, nil, nil
	})
}

// Migratable is cloud.Placement.Migratable.
func (c *Cloud) Migratable(ctx context.Context, host string) error {
	_, err := call(ctx, c, "Migratable", nil, func() (struct{}, after, error) { return struct{}{}, nil, c.migratable(host) })
	return err
}

func (c *Cloud) migratable(host string) error {
	switch {
	case len(c.opt.Hosts) < 2:
		return trove.Permanent(trove.Errorf(trove.KindNotImplemented, "This cloud has one host: there is no other that a machine could be moved to."))
	case host != "" && !slices.Contains(c.opt.Hosts, host):
		return bad("There is no host %s.", host)
	}
	return nil
}

// MigrateMachine is cloud.Migrator.MigrateMachine.
func (c *Cloud) MigrateMachine(ctx context.Context, instance, from, to string) (cloud.Machine, error) {
	return call(ctx, c, "MigrateMachine", &instance, func() (cloud.Machine, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return cloud.Machine{}, nil, noMachine(instance)
		}
		if err := c.migratable(to); err != nil {
			return cloud.Machine{}, nil, err
		}
		if m.host != from || from == to {
			then := c.look(m)
			return m.seen(), then, nil
		}
		host, err := c.place(m.group, instance, func(h string) bool { return h != from && (to == "" || h == to) })
		if err != nil {
			return cloud.Machine{}, nil, err
		}
		m.host = host
		then := chain(c.halted(m), c.start(m))
		return m.seen(), then, nil
	})
}
