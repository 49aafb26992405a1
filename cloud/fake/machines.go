package fake

import (
	"context"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// EnsureMachine is cloud.Machines.EnsureMachine. The instance's network and volume must exist before.
func (c *Cloud) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	return call(ctx, c, "EnsureMachine", &s.Instance, func() (cloud.Machine, after, error) {
		if m, ok := c.machines[s.Instance]; ok {
			var then after
			if m.State == cloud.MachineStopped {
				if err := c.checkPrevious(s); err != nil {
					return cloud.Machine{}, nil, err
				}
				m.spec.PreviousImageID = s.PreviousImageID
				then = c.start(m)
			} else {
				then = c.look(m)
			}
			return m.seen(), then, nil
		}
		if err := c.checkMachine(s); err != nil {
			return cloud.Machine{}, nil, err
		}
		group, host, err := c.join(s)
		if err != nil {
			return cloud.Machine{}, nil, err
		}
		s.BootData = slices.Clone(s.BootData)
		m := &machine{spec: s, group: group, host: host, Machine: cloud.Machine{ID: c.nextID(), Instance: s.Instance, FlavorID: s.Flavor.ID, ImageID: s.ImageID}}
		c.machines[s.Instance] = m
		then := c.start(m)
		return m.seen(), then, nil
	})
}

// seen is the machine as callers see it.
func (m *machine) seen() cloud.Machine {
	out := m.Machine
	if m.State == cloud.MachineRunning {
		out.PreviousImageID = m.spec.PreviousImageID
	}
	return out
}

func (c *Cloud) checkPrevious(s cloud.MachineSpec) error {
	if s.PreviousImageID != "" && !slices.Contains(c.opt.Images, s.PreviousImageID) {
		return bad("Image %s cannot be found.", s.PreviousImageID)
	}
	return nil
}

func (c *Cloud) checkMachine(s cloud.MachineSpec) error {
	if err := checkFlavor(s.Flavor); err != nil {
		return err
	}
	if err := s.Group.Check(); err != nil {
		return err //nolint:wrapcheck // a sentence of the port
	}
	if !slices.Contains(c.opt.Images, s.ImageID) {
		return bad("Image %s cannot be found.", s.ImageID)
	}
	if err := c.checkPrevious(s); err != nil {
		return err
	}
	if _, ok := c.networks[s.Instance]; !ok {
		return bad("Instance %s has no network that its machine could be attached to.", s.Instance)
	}
	if v, ok := c.volumes[s.Instance]; !ok || !v.Ready {
		return bad("Instance %s has no volume that its machine could use.", s.Instance)
	}
	return nil
}

func checkFlavor(f trove.Flavor) error {
	if f.ID == "" || f.RAM <= 0 || f.VCPUs <= 0 {
		return bad("Flavor %q has no memory or no cores.", f.ID)
	}
	return nil
}

// start begins a start of the machine; the returned function is to be called without the lock.
func (c *Cloud) start(m *machine) after {
	m.BootID, m.Reason = c.nextID(), ""
	m.State, m.looks = cloud.MachinePending, c.opt.Looks
	if m.looks > 0 {
		return nil
	}
	return c.running(m)
}

// look counts one look at a machine that may be pending.
func (c *Cloud) look(m *machine) after {
	if m.State != cloud.MachinePending {
		return nil
	}
	if m.looks--; m.looks > 0 {
		return nil
	}
	return c.running(m)
}

func (c *Cloud) running(m *machine) after {
	m.State = cloud.MachineRunning
	boot, data, id := c.opt.Boot, slices.Clone(m.spec.BootData), m.Instance
	if boot == nil {
		return nil
	}
	return func() { boot(id, data) }
}

// halted returns what to do when a machine that may have run does no longer.
func (c *Cloud) halted(m *machine) after {
	halt, id := c.opt.Halt, m.Instance
	if halt == nil || m.State != cloud.MachineRunning {
		return nil
	}
	return func() { halt(id) }
}

// FindMachine is cloud.Machines.FindMachine.
func (c *Cloud) FindMachine(ctx context.Context, instance string) (cloud.Machine, error) {
	return call(ctx, c, "FindMachine", &instance, func() (cloud.Machine, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return cloud.Machine{}, nil, noMachine(instance)
		}
		then := c.look(m)
		return m.seen(), then, nil
	})
}

// StopMachine is cloud.Machines.StopMachine; without a machine it is NotFound.
func (c *Cloud) StopMachine(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "StopMachine", &instance, func() (struct{}, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return struct{}{}, nil, noMachine(instance)
		}
		then := c.halted(m)
		m.State, m.looks = cloud.MachineStopped, 0
		return struct{}{}, then, nil
	})
	return err
}

// RebootMachine is cloud.Machines.RebootMachine; without a machine it is NotFound.
func (c *Cloud) RebootMachine(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "RebootMachine", &instance, func() (struct{}, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return struct{}{}, nil, noMachine(instance)
		}
		m.spec.PreviousImageID = ""
		then := chain(c.halted(m), c.start(m))
		return struct{}{}, then, nil
	})
	return err
}

// ResizeMachine is cloud.Machines.ResizeMachine; without a machine it is NotFound. The machine is not restarted.
func (c *Cloud) ResizeMachine(ctx context.Context, instance string, f trove.Flavor) (cloud.Machine, error) {
	return call(ctx, c, "ResizeMachine", &instance, func() (cloud.Machine, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return cloud.Machine{}, nil, noMachine(instance)
		}
		if err := checkFlavor(f); err != nil {
			return cloud.Machine{}, nil, err
		}
		m.FlavorID, m.spec.Flavor = f.ID, f
		return m.seen(), nil, nil
	})
}

// RemoveMachine is cloud.Machines.RemoveMachine.
func (c *Cloud) RemoveMachine(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "RemoveMachine", &instance, func() (struct{}, after, error) {
		m, ok := c.machines[instance]
		if !ok {
			return struct{}{}, nil, nil
		}
		then := c.halted(m)
		delete(c.machines, instance)
		c.dropGroup(m.group)
		return struct{}{}, then, nil
	})
	return err
}

// Machines is cloud.Machines.Machines, sorted by instance.
func (c *Cloud) Machines(ctx context.Context) ([]cloud.Machine, error) {
	return call(ctx, c, "Machines", nil, func() ([]cloud.Machine, after, error) {
		all := make([]cloud.Machine, 0, len(c.machines))
		for _, m := range c.machines {
			all = append(all, m.seen())
		}
		slices.SortFunc(all, func(a, b cloud.Machine) int { return strings.Compare(a.Instance, b.Instance) })
		return all, nil, nil
	})
}

func chain(all ...after) after {
	return func() {
		for _, f := range all {
			if f != nil {
				f()
			}
		}
	}
}

func noMachine(instance string) error {
	return trove.Errorf(trove.KindNotFound, "Instance %s has no machine.", instance)
}

func bad(format string, args ...any) error {
	return trove.Permanent(trove.Errorf(trove.KindBadRequest, format, args...))
}
