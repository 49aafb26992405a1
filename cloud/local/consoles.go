package local

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	consolePeriod = 30 * time.Second
	consoleMax    = runBytes / 4 // above, the console is cut
	consoleKeep   = 64 << 10     // what of it is kept in the state directory
)

// tendConsoles cuts consoles that have become long until the context ends.
func (p *Provider) tendConsoles(ctx context.Context) {
	for clock.Sleep(ctx, consolePeriod) == nil {
		ids, err := p.paths.instances()
		if err != nil {
			p.config.Log.WarnContext(ctx, "consoles were not looked at", "err", err)
			continue
		}
		for _, id := range ids {
			info, err := os.Stat(p.paths.console(id))
			if err == nil && info.Size() > consoleMax {
				p.keepConsole(ctx, id)
			}
		}
	}
}

// keepConsole moves the end of a console into the state directory and empties it: sandboxes append, so they go on at its beginning. Losing it is no
// reason to fail.
func (p *Provider) keepConsole(ctx context.Context, id string) {
	// The file is the guest's, which could make an open wait by a lease.
	f, err := os.OpenFile(p.paths.console(id), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return // nothing was ever written
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-consoleKeep), consoleKeep))
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		err = atomicfile.Write(p.paths.oldConsole(id), data, 0o600)
	}
	if err != nil {
		p.config.Log.WarnContext(ctx, "console was not kept", "instance", id, "err", err)
	}
}
