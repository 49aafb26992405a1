package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// startMachine starts the sandbox if it does not run. The caller has the instance's lock.
func (p *Provider) startMachine(ctx context.Context, id string, rec machineRecord, net NetInstance) error {
	if _, err := p.runtime.Find(id); err == nil {
		return nil
	} else if !errors.Is(err, sandbox.ErrNotRunning) {
		return err
	}
	if err := p.attachVolume(ctx, id); err != nil {
		return err
	}
	ns, err := p.enterRun(ctx, id)
	if err != nil {
		return err
	}
	defer p.dropSpace(id)
	if err := p.mountRoot(id, rec.ImageID, ns); err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	previous, err := p.mountPrevious(id, rec.PreviousImageID, ns)
	if err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	p.keepConsole(ctx, id)
	if err := p.writeBoot(id, rec.BootData, ns.Base()); err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	bundle := p.paths.in(id, "bundle")
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	return p.runtime.Start(ctx, sandbox.Spec{
		ID: id, Hostname: hostname(rec.Name, id), Bundle: bundle, Root: p.paths.in(id, "root"),
		Binds: append([]sandbox.Bind{
			{Source: p.paths.in(id, "agent"), Target: imagelayout.AgentDir},
			{Source: p.paths.in(id, "data"), Target: imagelayout.DataDir},
			{Source: p.paths.in(id, "config"), Target: imagelayout.BootDir},
		}, previous...),
		Args: []string{imagelayout.AgentBin, "init"}, Netns: net.Netns, BaseID: ns.Base(),
		Console: p.paths.console(id), Limits: limits(rec.Flavor, p.device(id)),
	})
}

// mountRoot makes the image's root and the agent appear with the instance's ids, both read-only.
func (p *Provider) mountRoot(id, imageID string, ns *mounts.UserNS) error {
	root := imagelayout.RootFS(p.config.Images, imageID)
	if _, err := imagelayout.Read(p.config.Images, imageID); err != nil {
		return err
	}
	// The runtime would make them, in the shared image, if that were writable.
	for _, dir := range []string{"/proc", "/dev", "/run", "/tmp", imagelayout.DataDir, imagelayout.AgentDir, imagelayout.BootDir} {
		if info, err := os.Lstat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
			return trove.Permanent(fmt.Errorf("image %s has no directory %s to mount on", imageID, dir))
		}
	}
	for name, source := range map[string]string{"root": root, "agent": imagelayout.AgentPath(p.config.Images, imageID)} {
		target := p.paths.in(id, name)
		if err := os.MkdirAll(target, 0o711); err != nil { //nolint:gosec // the sandbox's root must pass
			return err
		}
		if err := mounts.Bind(source, target, mounts.ReadOnly|mounts.NoSuid|mounts.NoDev, ns); err != nil {
			return err
		}
	}
	return nil
}

// mountPrevious makes the previous image's root appear with the instance's ids, read-only, and returns where it goes in the guest: into the tmpfs, because
// images have no place for it. Without a previous image it takes away what an earlier start left.
func (p *Provider) mountPrevious(id, imageID string, ns *mounts.UserNS) ([]sandbox.Bind, error) {
	target := p.paths.in(id, "previous")
	if err := mounts.Unmount(target); err != nil || imageID == "" {
		return nil, err
	}
	if _, err := imagelayout.Read(p.config.Images, imageID); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(target, 0o711); err != nil { //nolint:gosec // the sandbox's root must pass
		return nil, err
	}
	err := mounts.Bind(imagelayout.RootFS(p.config.Images, imageID), target, mounts.ReadOnly|mounts.NoSuid|mounts.NoDev, ns)
	return []sandbox.Bind{{Source: target, Target: imagelayout.PreviousDir}}, err
}

// unmountRoot undoes mountRoot, mountPrevious and writeBoot.
func (p *Provider) unmountRoot(id string) error {
	for _, name := range []string{"root", "previous", "agent", "config"} {
		if err := mounts.Unmount(p.paths.in(id, name)); err != nil {
			return err
		}
	}
	return nil
}

// writeBoot puts the boot data where the guest's root alone can read it, and nobody write.
func (p *Provider) writeBoot(id string, data []byte, owner uint32) error {
	dir := p.paths.in(id, "config")
	if err := mounts.Unmount(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the guest may list it
		return err
	}
	file := filepath.Join(dir, filepath.Base(imagelayout.BootFile))
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(file, data, 0o400); err != nil {
		return err
	}
	if err := os.Chown(file, int(owner), int(owner)); err != nil {
		return err
	}
	return mounts.Bind(dir, dir, mounts.ReadOnly|mounts.NoSuid|mounts.NoDev|mounts.NoExec, nil)
}

// hostname makes a host name of an instance's name: what a name may have more is left out. Without anything left it is the beginning of the id.
func hostname(name, id string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == '-', r == '_', r == '.', r == ' ':
			return '-'
		}
		return -1
	}, name)
	name = strings.Trim(name[:min(len(name), 63)], "-")
	if name == "" {
		return "trove-" + id[:8]
	}
	return name
}
