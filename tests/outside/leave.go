package outside

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LeaveNetwork starts the program again in a network of its own that forwards nothing, with an empty /run: what the machine's own does (routes between others and a filter for
// them, as where containers are run, interfaces that come and go) is no part of a test, nor what a run left that was killed. It is for TestMain, does nothing when called again or
// by others than root, and ends the program if it fails.
func LeaveNetwork() {
	const sign = "TROVE_TEST_NETWORK"
	if os.Geteuid() != 0 || os.Getenv(sign) != "" {
		return
	}
	err := leave()
	if err == nil {
		var program string
		if program, err = os.Executable(); err == nil {
			err = unix.Exec(program, os.Args, append(os.Environ(), sign+"=1"))
		}
	}
	fmt.Fprintln(os.Stderr, "error: give the tests a network of their own:", err)
	os.Exit(1)
}

// leave takes this thread, and what it becomes, to another network.
func leave() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	err = errors.Join(err, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("run", "/run", "tmpfs", 0, "mode=755"))
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} { // IPv4 would have the settings of the machine
		err = errors.Join(err, os.WriteFile("/proc/sys/net/"+path, []byte("0"), 0))
	}
	return err
}
