package hostnet

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace with a netlink socket in it.
type namespace struct {
	file   *os.File
	handle *netlink.Handle
	fresh  bool // made by this call
}

func (ns *namespace) close() {
	ns.handle.Close()
	ns.file.Close()
}

// onThread runs f on a thread of its own that ends afterwards: f may change the thread's namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self is about it. While it is held here another thread does the work.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
		// Not unlocked: the thread ends with the goroutine.
	}()
	return <-done
}

// inside runs f on a thread in the network namespace.
func inside(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// ensureNamespace opens the network namespace that is bound to the path, making it if it is not there.
func ensureNamespace(path string) (*namespace, error) {
	ns := &namespace{}
	if !isNamespace(path) {
		if err := newNamespace(path); err != nil {
			return nil, err
		}
		ns.fresh = true
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	ns.file = f
	err = inside(f, func() error {
		ns.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	return ns, nil
}

func newNamespace(path string) error {
	// A file without a namespace is what a restart of the machine or a killed call left; another open descriptor cannot hinder.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the network namespace: %w", err)
	}
	f.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := silenceIPv6("default"); err != nil {
			return err
		}
		if err := silenceIPv6("all"); err != nil {
			return err
		}
		// Nobody tells a guest that a packet was too large for the way to a client: TCP finds it out by itself.
		if err := write("/proc/sys/net/ipv4/tcp_mtu_probing", "1"); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("keep the network namespace: %w", err)
		}
		return nil
	})
}

// isNamespace reports whether a namespace is bound to the path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// removeNamespace unbinds the namespace. It ends, with its ends of the veth pairs, when no process is in it any longer.
func removeNamespace(path string) error {
	for isNamespace(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("remove the network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the network namespace: %w", err)
	}
	return nil
}
