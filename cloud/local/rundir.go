package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/trove-dbaas/trove/cloud/local/mounts"
)

// runBytes bounds an instance's run directory, in which its sandbox's output is collected: no guest fills the host's memory by writing much.
const runBytes = 2 << 20

// enterRun makes the instance's run directory and its user namespace be there. The caller has the instance's lock.
func (p *Provider) enterRun(ctx context.Context, id string) (*mounts.UserNS, error) {
	dir := p.paths.runInstance(id)
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the sandbox's root must pass
		return nil, fmt.Errorf("instance %s: %w", id, err)
	}
	if err := mounts.Tmpfs(dir, runBytes, 0o711); err != nil {
		return nil, fmt.Errorf("instance %s: %w", id, err)
	}
	base, err := claimIDs(dir)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", id, err)
	}
	p.mu.Lock()
	ns, ok := p.spaces[id]
	p.mu.Unlock()
	if ok && ns.Base() == base {
		return ns, nil
	}
	fresh, err := mounts.NewUserNS(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", id, err)
	}
	p.dropSpace(id)
	p.mu.Lock()
	p.spaces[id] = fresh
	p.mu.Unlock()
	return fresh, nil
}

// dropSpace closes the instance's user namespace, which lives on in what uses it.
func (p *Provider) dropSpace(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ns, ok := p.spaces[id]; ok {
		_ = ns.Close()
		delete(p.spaces, id)
	}
}

// removing runs remove under the instance's lock and then clears away what the instance had only for machine and volume, if both are gone.
func (p *Provider) removing(ctx context.Context, id string, remove func() error) error {
	if err := checkID(id); err != nil {
		return err
	}
	unlock, err := p.paths.lock(ctx, id)
	if err != nil {
		return err
	}
	if err := remove(); err != nil {
		unlock(false)
		return err
	}
	if exists(p.paths.machineRecord(id)) || exists(p.paths.volumeRecord(id)) {
		unlock(false)
		return nil
	}
	err = p.leaveRun(id)
	if err == nil {
		err = removeDir(p.paths.instance(id))
	}
	unlock(true)
	return err
}

// leaveRun undoes enterRun. The ids are given back last: nothing that bears them may be left.
func (p *Provider) leaveRun(id string) error {
	dir := p.paths.runInstance(id)
	p.dropSpace(id)
	if err := mounts.UnmountBelow(dir); err != nil {
		return fmt.Errorf("clear away instance %s: %w", id, err)
	}
	if err := removeDir(dir); err != nil {
		return err
	}
	return releaseIDs(dir)
}

func removeDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear away: %w", err)
	}
	return nil
}
