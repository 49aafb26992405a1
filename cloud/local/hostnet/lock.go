package hostnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/clock"
)

// lockTimeout is longer than anything that is done under a lock.
const lockTimeout = time.Minute

// rangesLock is held by whoever chooses ranges: two deployments that start at once must not choose the same.
const rangesLock = "/run/trove-network.lock"

// lock takes the deployment's lock, in this process and against others.
func (n *Net) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("another call for the network did not end"))
	defer cancel()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lock the network: %w", context.Cause(ctx))
	}
	select {
	case <-n.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("lock the network: %w", context.Cause(ctx))
	}
	release, err := lockFile(ctx, n.d.lockFile())
	if err != nil {
		n.turn <- struct{}{}
		return nil, fmt.Errorf("lock the network: %w", err)
	}
	return func() {
		release()
		n.turn <- struct{}{}
	}, nil
}

// lockFile takes the lock of a file that everybody leaves in place.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
