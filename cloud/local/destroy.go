package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/trove-dbaas/trove/cloud/local/volume"
)

// Instances returns the ids of all instances that have anything in this deployment: what Destroy would remove.
func (p *Provider) Instances(ctx context.Context) ([]string, error) {
	ids, err := p.paths.instances()
	if err != nil {
		return nil, err
	}
	running, err := p.runtime.Sandboxes()
	if err != nil {
		return nil, err
	}
	networks, err := p.config.Net.Instances(ctx)
	if err != nil {
		return nil, err
	}
	ids = append(ids, running...)
	for _, n := range networks {
		ids = append(ids, n.Instance)
	}
	return sortedUnique(ids), nil
}

// RunDir returns the directory of what is gone when the machine is restarted; the state directory's counterpart, for people who look for a fault.
func (p *Provider) RunDir() string { return p.paths.run }

// Destroy removes everything that this deployment made outside the state directory, and its instances with their data; the images stay. Nothing of another
// deployment is touched. It closes the provider, and may be repeated.
func (p *Provider) Destroy(ctx context.Context) error {
	if err := p.Close(); err != nil {
		return err
	}
	// The locks are in a directory that an earlier call removed at its end.
	if err := p.paths.make(); err != nil {
		return fmt.Errorf("destroy the local cloud: %w", err)
	}
	ids, err := p.Instances(ctx)
	if err != nil {
		return fmt.Errorf("destroy the local cloud: %w", err)
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, p.destroyInstance(ctx, id))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy the local cloud: %w", err)
	}
	for _, step := range []func() error{
		func() error { return p.config.Net.Destroy(ctx) },
		p.runtime.Close,
		p.removeLoops,
		func() error { return removeDir(p.paths.shelf()) },
		func() error { return removeDir(p.paths.instancesDir()) },
		func() error { return removeDir(p.paths.run) },
		removeIfEmpty,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("destroy the local cloud: %w", err)
		}
	}
	return nil
}

func (p *Provider) destroyInstance(ctx context.Context, id string) error {
	return errors.Join(
		p.removing(ctx, id, func() error {
			if err := p.dropMachine(ctx, id); err != nil {
				return err
			}
			return p.dropVolume(ctx, id)
		}),
		p.RemoveNetwork(ctx, id))
}

// removeLoops gives back the loop devices that the kernel made for our volumes.
func (p *Provider) removeLoops() error {
	entries, err := os.ReadDir(p.paths.loops())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := volume.RemoveLoop(n); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(p.paths.loops(), e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeIfEmpty removes the directory that all deployments share, if this was the last.
func removeIfEmpty() error {
	entries, err := os.ReadDir(idsDir)
	if err != nil || len(entries) > 0 {
		return nil //nolint:nilerr // not there, or in use: both fine
	}
	_ = os.Remove(idsDir)
	return nil
}
