package hostnet

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/netns"
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

// ensureNamespace opens the network namespace that is bound to the path, making it if it is not there.
func ensureNamespace(path string) (*namespace, error) {
	ns := &namespace{}
	if !netns.Is(path) {
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
	err = netns.Inside(f, func() error {
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
	return netns.Make(path, func() error {
		if err := silenceIPv6("default"); err != nil {
			return err
		}
		if err := silenceIPv6("all"); err != nil {
			return err
		}
		// Nobody tells a guest that a packet was too large for the way to a client: TCP finds it out by itself.
		return write("/proc/sys/net/ipv4/tcp_mtu_probing", "1")
	})
}
