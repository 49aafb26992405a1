package hostnet

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// dump calls list again as long as the kernel says that the list changed while it was read: such an answer has only a part (netlink#1018).
func dump[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 50
	for range tries {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, fmt.Errorf("%w, %d times one after another", netlink.ErrDumpInterrupted, tries)
}

func listLinks() ([]netlink.Link, error) { return dump(netlink.LinkList) }

func notThere(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}
