package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
)

// Probe tries out whether this machine can be a local cloud for the configuration: it makes a volume, maps user ids and runs a program in a sandbox.
// The error has one sentence per line on each thing that is missing and what to do about it. Nothing is left behind. It may be repeated, and run while the
// cloud is open.
func Probe(ctx context.Context, c Config) error {
	if os.Geteuid() != 0 {
		return errors.New("the local cloud needs root: run the command as root, or with sudo")
	}
	var problems []error
	for _, tool := range []struct{ program, packet string }{{"runc", "runc"}, {"mkfs.xfs", "xfsprogs"}} {
		if _, err := exec.LookPath(tool.program); err != nil {
			problems = append(problems, fmt.Errorf("%s is not installed: apt-get install %s", tool.program, tool.packet))
		}
	}
	tree, err := cgroup.Open(cgroupRoot)
	if err != nil {
		problems = append(problems, fmt.Errorf("control groups cannot be used: %w: mount them, and switch their controllers on (in a container: --cgroupns=host, privileged)", err))
	}
	if len(problems) == 0 {
		problems = append(problems, probeParts(ctx, c, tree)...)
	}
	if c.Net != nil {
		problems = append(problems, c.Net.Probe(ctx))
	}
	return errors.Join(problems...)
}

// scratch is where a probe works: a short-lived deployment of its own.
type scratch struct {
	paths
	ns *mounts.UserNS
}

func probeParts(ctx context.Context, c Config, tree *cgroup.Tree) (problems []error) {
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return []error{fmt.Errorf("the state directory cannot be made: %w", err)}
	}
	state, err := os.MkdirTemp(c.State, "probe-")
	if err != nil {
		return []error{fmt.Errorf("the state directory cannot be written to: %w", err)}
	}
	s := &scratch{paths: newPaths(state)}
	defer func() {
		if err := s.clear(context.WithoutCancel(ctx), tree); err != nil {
			problems = append(problems, fmt.Errorf("the probe could not clear away after itself: %w", err))
		}
	}()
	if err := s.make(); err != nil {
		return []error{fmt.Errorf("the directory %s cannot be made: %w", s.run, err)}
	}
	base, err := claimIDs(s.run)
	if err != nil {
		return []error{err}
	}
	if s.ns, err = mounts.NewUserNS(ctx, base); err != nil {
		return []error{fmt.Errorf("user namespaces cannot be made: %w: set sysctl user.max_user_namespaces above 0, and in a container run it privileged", err)}
	}
	if err := s.probeMapping(c); err != nil {
		problems = append(problems, err)
	}
	if err := s.probeVolume(ctx); err != nil {
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		if err := s.probeSandbox(ctx, tree, c); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// probeMapping maps the ids of the file systems that images lie on.
func (s *scratch) probeMapping(c Config) error {
	target := filepath.Join(s.run, "map")
	if err := os.MkdirAll(target, 0o711); err != nil { //nolint:gosec // as it will be
		return err
	}
	source := c.Images
	if !exists(source) {
		source = s.state
	}
	if err := mounts.Bind(source, target, mounts.ReadOnly, s.ns); err != nil {
		return fmt.Errorf("instances cannot have user ids of their own over %s: %w: put it on ext4, xfs or btrfs, with a kernel of 5.12 or later", source, err)
	}
	return mounts.Unmount(target)
}

// probeVolume makes, attaches and removes a volume. It reserves no space.
func (s *scratch) probeVolume(ctx context.Context) error {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return errors.New("there are no loop devices: modprobe loop (in a container: give it /dev/loop-control and the right to make loop devices)")
	}
	image, target := filepath.Join(s.state, "volume.img"), filepath.Join(s.run, "volume")
	if err := os.MkdirAll(target, 0o711); err != nil { //nolint:gosec // as it will be
		return err
	}
	if err := volume.Make(ctx, volume.Spec{Image: image, Size: 512 << 20}); err != nil {
		return fmt.Errorf("no volume can be made in %s: %w", s.state, err)
	}
	_, err := volume.Attach(image, target, s.ns)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("the kernel has no xfs: modprobe xfs, or use a kernel that has it (%w)", err)
	case err != nil:
		return fmt.Errorf("no volume can be attached: %w", err)
	}
	return volume.Detach(ctx, target)
}

// probeSandbox runs a program of this machine in a sandbox and looks at what it sees.
func (s *scratch) probeSandbox(ctx context.Context, tree *cgroup.Tree, c Config) error {
	root, bundle := filepath.Join(s.run, "root"), filepath.Join(s.run, "bundle")
	binds, err := s.hostRoot(root)
	if err == nil {
		err = os.MkdirAll(bundle, 0o700)
	}
	if err != nil {
		return fmt.Errorf("a root directory for the probe cannot be made: %w", err)
	}
	rt := &sandbox.Runtime{Dir: s.runc(), Parent: "/" + s.name, Groups: tree, Log: c.Log}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the probe's sandbox did not end within a minute"))
	defer cancel()
	out, err := rt.Try(ctx, sandbox.Spec{
		ID: "probe", Hostname: "probe", Bundle: bundle, Root: root, Binds: binds, BaseID: s.ns.Base(),
		Args: []string{"/bin/cat", "/proc/self/status", "/proc/self/uid_map"}, Limits: limits(trove.Flavor{RAM: 64, VCPUs: 1}, ""),
	})
	if err != nil {
		return fmt.Errorf("no sandbox can be run: %w", err)
	}
	for _, want := range []string{"Seccomp:\t2\n", "NoNewPrivs:\t1\n", fmt.Sprintf("%d", s.ns.Base())} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("a sandbox runs but is not closed: in /proc/self of its process %q is missing", strings.TrimSpace(want))
		}
	}
	return nil
}

// hostRoot makes a root directory out of this machine's programs, for the probe alone: no instance sees them.
func (s *scratch) hostRoot(root string) ([]sandbox.Bind, error) {
	for _, dir := range []string{"proc", "dev", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil { //nolint:gosec // the sandbox's root must pass
			return nil, err
		}
	}
	var binds []sandbox.Bind
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		info, err := os.Lstat(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(dir)
			if err != nil {
				return nil, err
			}
			if err := os.Symlink(target, filepath.Join(root, dir)); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
			continue
		}
		seen := filepath.Join(s.run, "host"+strings.ReplaceAll(dir, "/", "-"))
		for _, d := range []string{filepath.Join(root, dir), seen} {
			if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // the sandbox's root must pass
				return nil, err
			}
		}
		if err := mounts.Bind(dir, seen, mounts.ReadOnly|mounts.NoSuid|mounts.NoDev, nil); err != nil {
			return nil, err
		}
		binds = append(binds, sandbox.Bind{Source: seen, Target: dir})
	}
	return binds, nil
}

// clear removes everything of the probe.
func (s *scratch) clear(ctx context.Context, tree *cgroup.Tree) error {
	rt := &sandbox.Runtime{Dir: s.runc(), Parent: "/" + s.name, Groups: tree}
	if s.ns != nil {
		_ = s.ns.Close()
	}
	for _, step := range []func() error{
		func() error { return rt.Remove(ctx, "probe") },
		rt.Close,
		func() error { return volume.Detach(ctx, filepath.Join(s.run, "volume")) },
		func() error { return mounts.UnmountBelow(s.run) },
		func() error { return removeDir(s.run) },
		func() error { return releaseIDs(s.run) },
		removeIfEmpty,
		func() error { return removeDir(s.state) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
