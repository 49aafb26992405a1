package fake

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

var _ cloud.Grouper = (*Cloud)(nil)

// join returns the group that a new machine is in, which is there from now on, and its host.
func (c *Cloud) join(s cloud.MachineSpec) (group, host string, err error) {
	if s.Group.Policy == "" {
		return "", c.hosts()[0], nil
	}
	group = s.Group.ID
	for _, peer := range s.Group.Peers {
		if m, ok := c.machines[peer]; ok && m.group != "" {
			group = m.group
			break
		}
	}
	if host, err = c.place(group, s.Instance, func(string) bool { return true }); err != nil {
		return "", "", err
	}
	if _, ok := c.groups[group]; !ok {
		c.groups[group] = s.Group.Policy
	}
	return group, host, nil
}

// place returns the first of the hosts that may be used for a machine of the group.
func (c *Cloud) place(group, instance string, may func(host string) bool) (string, error) {
	used := map[string]bool{}
	for id, m := range c.machines {
		if group != "" && m.group == group && id != instance {
			used[m.host] = true
		}
	}
	policy := c.groups[group]
	i := slices.IndexFunc(c.hosts(), func(h string) bool {
		return may(h) && (len(used) == 0 || used[h] == (policy == cloud.Affinity))
	})
	if i < 0 {
		return "", trove.Permanent(trove.Errorf(trove.KindOverLimit, "No host is left on which the machine could be by the policy %s of its group.", policy))
	}
	return c.hosts()[i], nil
}

// hosts are the hosts that there are.
func (c *Cloud) hosts() []string {
	if len(c.opt.Hosts) == 0 {
		return []string{"fake"}
	}
	return c.opt.Hosts
}

// dropGroup removes a group that has no machine.
func (c *Cloud) dropGroup(id string) {
	if !c.populated(id) {
		delete(c.groups, id)
	}
}

// populated reports whether a group has a machine.
func (c *Cloud) populated(id string) bool {
	for _, m := range c.machines {
		if m.group == id {
			return true
		}
	}
	return false
}

// RemoveGroup is cloud.Grouper.RemoveGroup.
func (c *Cloud) RemoveGroup(ctx context.Context, id string) error {
	_, err := call(ctx, c, "RemoveGroup", &id, func() (struct{}, after, error) {
		c.dropGroup(id)
		return struct{}{}, nil, nil
	})
	return err
}

// EmptyGroups is cloud.Grouper.EmptyGroups, sorted.
func (c *Cloud) EmptyGroups(ctx context.Context) ([]string, error) {
	return call(ctx, c, "EmptyGroups", nil, func() ([]string, after, error) {
		empty := []string{}
		for id := range c.groups {
			if !c.populated(id) {
				empty = append(empty, id)
			}
		}
		slices.Sort(empty)
		return empty, nil, nil
	})
}

// LeaveGroup makes a group without a machine, as a create that was cut off leaves it.
func (c *Cloud) LeaveGroup(id string, p cloud.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[id] = p
}
