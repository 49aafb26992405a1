package fake

import (
	"context"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// EnsureVolume is cloud.Volumes.EnsureVolume.
func (c *Cloud) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	return call(ctx, c, "EnsureVolume", &s.Instance, func() (cloud.Volume, after, error) {
		if s.SizeGiB <= 0 {
			return cloud.Volume{}, nil, bad("A volume of %d GiB cannot be made.", s.SizeGiB)
		}
		v, ok := c.volumes[s.Instance]
		if ok {
			v.look()
		}
		switch {
		case ok && s.SizeGiB < v.SizeGiB:
			return cloud.Volume{}, nil, bad("The volume has %d GiB and cannot shrink to %d GiB.", v.SizeGiB, s.SizeGiB)
		case ok && s.SizeGiB == v.SizeGiB:
			return v.Volume, nil, nil
		case !ok && s.Type != "" && !slices.ContainsFunc(c.opt.VolumeTypes, func(t cloud.VolumeType) bool { return s.Type == t.ID || s.Type == t.Name }):
			return cloud.Volume{}, nil, bad("Volume type %s cannot be found.", s.Type)
		}
		if err := c.checkPool(s); err != nil {
			return cloud.Volume{}, nil, err
		}
		if !ok {
			v = &volume{Volume: cloud.Volume{ID: c.nextID(), Instance: s.Instance}}
			c.volumes[s.Instance] = v
		}
		v.SizeGiB, v.looks = s.SizeGiB, c.opt.Looks
		v.Ready = v.looks == 0 && v.Failed == ""
		return v.Volume, nil, nil
	})
}

// checkPool returns an error if the pool cannot hold the volume beside all others.
func (c *Cloud) checkPool(s cloud.VolumeSpec) error {
	if c.opt.PoolGiB == 0 {
		return nil
	}
	used := s.SizeGiB
	for id, v := range c.volumes {
		if id != s.Instance {
			used += v.SizeGiB
		}
	}
	if used > c.opt.PoolGiB {
		return trove.Permanent(trove.Errorf(trove.KindOverLimit, "The volume pool has %d GiB; %d GiB would be needed.", c.opt.PoolGiB, used))
	}
	return nil
}

// look counts one look at a volume that may be pending.
func (v *volume) look() {
	if v.Ready || v.Failed != "" {
		return
	}
	if v.looks--; v.looks <= 0 {
		v.Ready = true
	}
}

// FindVolume is cloud.Volumes.FindVolume.
func (c *Cloud) FindVolume(ctx context.Context, instance string) (cloud.Volume, error) {
	return call(ctx, c, "FindVolume", &instance, func() (cloud.Volume, after, error) {
		v, ok := c.volumes[instance]
		if !ok {
			return cloud.Volume{}, nil, trove.Errorf(trove.KindNotFound, "Instance %s has no volume.", instance)
		}
		v.look()
		return v.Volume, nil, nil
	})
}

// RemoveVolume is cloud.Volumes.RemoveVolume. While the instance has a machine it is a Conflict.
func (c *Cloud) RemoveVolume(ctx context.Context, instance string) error {
	_, err := call(ctx, c, "RemoveVolume", &instance, func() (struct{}, after, error) {
		_, used := c.machines[instance]
		if _, ok := c.volumes[instance]; ok && used {
			return struct{}{}, nil, trove.Errorf(trove.KindConflict, "The volume of instance %s is in use by its machine.", instance)
		}
		delete(c.volumes, instance)
		return struct{}{}, nil, nil
	})
	return err
}

// Volumes is cloud.Volumes.Volumes, sorted by instance.
func (c *Cloud) Volumes(ctx context.Context) ([]cloud.Volume, error) {
	return call(ctx, c, "Volumes", nil, func() ([]cloud.Volume, after, error) {
		all := make([]cloud.Volume, 0, len(c.volumes))
		for _, v := range c.volumes {
			all = append(all, v.Volume)
		}
		slices.SortFunc(all, func(a, b cloud.Volume) int { return strings.Compare(a.Instance, b.Instance) })
		return all, nil, nil
	})
}
