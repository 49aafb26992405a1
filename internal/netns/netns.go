// Package netns works in network namespaces of Linux other than the process's own. A namespace is named by the file that it is bound to, as `ip netns` has
// them in /run/netns.
//
// Functions may be called from several goroutines. Sockets that are made in a namespace stay in it, whoever uses them later; programs that are started in it
// are in it for good.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs f on a thread of its own that ends afterwards: f may change what belongs to the thread, such as its namespaces.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self is about it. While it is held here another thread does the work.
			done <- OnThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
		// Not unlocked: the thread ends with the goroutine.
	}()
	return <-done
}

// Do runs f on a thread in the namespace that is bound to the path. Goroutines that f starts are elsewhere.
func Do(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer ns.Close()
	return Inside(ns, f)
}

// Inside is Do of a namespace that is open.
func Inside(ns *os.File, f func() error) error {
	return OnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// Is reports whether a namespace is bound to the path.
func Is(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Make makes a namespace, lets prepare set it up from within, and binds it to the path. A prepare that is nil does nothing. What is bound there already is
// hidden: ask Is before.
func Make(path string, prepare func() error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as ip makes it; nobody enters a namespace without root's rights
		return fmt.Errorf("make the network namespace: %w", err)
	}
	// A file without a namespace is what a restart of the machine or a killed call left; another open descriptor cannot hinder.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the network namespace: %w", err)
	}
	f.Close()
	return OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if prepare != nil {
			if err := prepare(); err != nil {
				return fmt.Errorf("make the network namespace: %w", err)
			}
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("keep the network namespace: %w", err)
		}
		return nil
	})
}

// Remove unbinds the namespace. It ends, with its ends of veth pairs, when no process and no socket is in it any longer. It is no error if there is none.
func Remove(path string) error {
	for Is(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("remove the network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the network namespace: %w", err)
	}
	return nil
}

// DialFunc is what connects: net.Dialer.DialContext is one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer returns what connects from the namespace that is bound to the path, and from the process's own while there is none. Names are resolved where
// the process is.
func Dialer(path string, d net.Dialer) DialFunc {
	d.FallbackDelay = -1 // one address after another: what is tried at once is tried on other threads
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		if !Is(path) {
			return d.DialContext(ctx, network, address)
		}
		err = Do(path, func() error {
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
