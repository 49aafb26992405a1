package mounts

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/trove-dbaas/trove/internal/execx"
)

// RangeSize is how many user and group ids one user namespace has: all that a Linux distribution uses.
const RangeSize = 65536

// UserNS is a user namespace that maps the ids 0 to 65535 to a range of the host's. It lives as long as it is open, and longer in the mounts
// that were made with it.
type UserNS struct {
	file *os.File
	base uint32
}

// NewUserNS makes a user namespace whose id 0 is base on the host.
func NewUserNS(ctx context.Context, base uint32) (*UserNS, error) {
	// A process of several threads cannot enter a new user namespace, so a child does; it waits for the end of its input while its namespace
	// is opened from outside.
	in, hold, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer hold.Close()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: RangeSize}}
	cmd := execx.Command(ctx, execx.Cmd{
		Path: "cat", Stdin: in,
		Attr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids},
	})
	err = cmd.Start()
	in.Close()
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	file, openErr := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	hold.Close()
	if err := cmd.Wait(); err != nil && openErr == nil {
		file.Close()
		openErr = err
	}
	if openErr != nil {
		return nil, fmt.Errorf("make a user namespace: %w", openErr)
	}
	return &UserNS{file: file, base: base}, nil
}

// Base returns the host's id of the namespace's id 0.
func (u *UserNS) Base() uint32 { return u.base }

// Close gives the namespace back.
func (u *UserNS) Close() error { return u.file.Close() }
