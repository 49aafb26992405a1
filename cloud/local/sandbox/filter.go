package sandbox

import (
	"fmt"
	"slices"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// withheld are system calls that the default profile allows and no engine needs: looking into other processes, and tables of the processor that programs of
// the last century used. What is not called cannot be a way into the kernel.
var withheld = []string{"ptrace", "process_vm_readv", "process_vm_writev", "modify_ldt"}

// filter returns the system call filter: the default profile of moby/profiles, narrowed.
func filter(config *specs.Spec) (*specs.LinuxSeccomp, error) {
	profile, err := seccomp.GetDefaultProfile(config)
	if err != nil {
		return nil, fmt.Errorf("make the system call filter: %w", err)
	}
	// Guests are of the host's own architecture; calls in the manner of another one end the caller. Half the filter, half the time to load it.
	profile.Architectures = profile.Architectures[:min(1, len(profile.Architectures))]
	calls := sockets()
	for _, c := range profile.Syscalls {
		if c.Action == specs.ActAllow {
			c.Names = slices.DeleteFunc(slices.Clone(c.Names), func(name string) bool {
				return name == "socket" || name == "socketcall" || slices.Contains(withheld, name)
			})
		}
		if len(c.Names) > 0 {
			calls = append(calls, c)
		}
	}
	profile.Syscalls = calls
	return profile, nil
}

// sockets allows what databases speak: local sockets, TCP and UDP, and the netlink protocol by which the C library learns of addresses.
func sockets() []specs.LinuxSyscall {
	is := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	var calls []specs.LinuxSyscall
	for _, args := range [][]specs.LinuxSeccompArg{
		{is(0, unix.AF_UNIX)},
		{is(0, unix.AF_INET)},
		{is(0, unix.AF_INET6)},
		{is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE)},
	} {
		calls = append(calls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActAllow, Args: args})
	}
	return calls
}
