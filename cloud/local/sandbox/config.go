package sandbox

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
)

// Capabilities is all that root in a sandbox may do, and only within its own user namespace: become the engine's user, end its
// processes, and care for files whoever they belong to. The engine, as its own user, has none of them.
var Capabilities = []string{"CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"}

// config returns what runc shall make of the specification.
func (s Spec) config(group string) (*specs.Spec, error) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: s.BaseID, Size: mounts.RangeSize}}
	config := &specs.Spec{
		Version:  "1.0.2",
		Hostname: s.Hostname,
		Root:     &specs.Root{Path: s.Root, Readonly: true},
		Process: &specs.Process{
			Args: s.Args,
			Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"},
			Cwd:  "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: Capabilities, Effective: Capabilities, Permitted: Capabilities,
			},
			Rlimits:         rlimits(),
			NoNewPrivileges: true,
		},
		Mounts: s.mounts(),
		Linux: &specs.Linux{
			UIDMappings: ids,
			GIDMappings: ids,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace},
				{Type: specs.NetworkNamespace, Path: s.Netns},
			},
			CgroupsPath:   group,
			Resources:     resources(s.Limits),
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	var err error
	config.Linux.Seccomp, err = filter(config)
	return config, err
}

// There is no /sys: mounting it needs the network namespace to belong to the sandbox's user namespace, and no engine asks for it.
func (s Spec) mounts() []specs.Mount {
	tmpfs := func(target string, options ...string) specs.Mount {
		return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "nodev"}, options...)}
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
		// What is written to these counts as the sandbox's memory.
		tmpfs("/dev/shm", "noexec", "mode=1777"),
		tmpfs("/run", "noexec", "mode=755", fmt.Sprintf("size=%d", s.Limits.Memory/4)),
		tmpfs("/tmp", "noexec", "mode=1777", fmt.Sprintf("size=%d", s.Limits.Memory/4)),
	}
	for _, b := range s.Binds {
		all = append(all, specs.Mount{Destination: b.Target, Type: "bind", Source: b.Source, Options: []string{"bind"}})
	}
	return all
}

func resources(l cgroup.Limits) *specs.LinuxResources {
	period := uint64(cgroup.Period)
	return &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &l.Memory, Swap: &l.Memory},
		CPU:     &specs.LinuxCPU{Quota: &l.CPU, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &l.PIDs},
		BlockIO: blockIO(l.IO),
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, // runc adds null, zero, full, random, urandom, tty
	}
}

// blockIO limits the traffic with the data volume.
func blockIO(l cgroup.IO) *specs.LinuxBlockIO {
	var major, minor int64
	if n, err := fmt.Sscanf(l.Device, "%d:%d", &major, &minor); n != 2 || err != nil {
		return nil
	}
	throttle := func(rate int64) []specs.LinuxThrottleDevice {
		if rate <= 0 {
			return nil
		}
		d := specs.LinuxThrottleDevice{Rate: uint64(rate)}
		d.Major, d.Minor = major, minor
		return []specs.LinuxThrottleDevice{d}
	}
	return &specs.LinuxBlockIO{
		ThrottleReadIOPSDevice: throttle(l.IOPS), ThrottleWriteIOPSDevice: throttle(l.IOPS),
		ThrottleReadBpsDevice: throttle(l.Bandwidth), ThrottleWriteBpsDevice: throttle(l.Bandwidth),
	}
}

// rlimits gives the sandbox as many open files as this process could have: going beyond the hard limit needs a right that we may not have.
func rlimits() []specs.POSIXRlimit {
	limits := []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		n := min(files.Max, 1<<20)
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: n, Soft: n})
	}
	return limits
}

// What /proc shows of the host beyond the sandbox's own namespaces.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/proc/config.gz", "/proc/kallsyms",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)
