package guestagent

import (
	"context"
	"time"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/clock"
)

// keepTimeout bounds one fetch: whoever wants to read a log of a busy engine shall see what there is.
const keepTimeout = 2 * time.Second

// watchLogs fetches, now and then, what the engine keeps of its logs in memory alone.
func (a *Agent) watchLogs(ctx context.Context) {
	if _, ok := a.cfg.Engine.(engine.LogKeeper); !ok {
		return
	}
	for clock.Sleep(ctx, a.times.KeepLogs) == nil {
		a.keepLogs(ctx)
	}
}

// keepLogs fetches it once. That it could not be fetched is no reason not to show what is in the file.
func (a *Agent) keepLogs(ctx context.Context) {
	k, ok := a.cfg.Engine.(engine.LogKeeper)
	if !ok || !a.supervisor.Service().Up {
		return
	}
	limited, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	if err := k.KeepLogs(limited, a.cfg.Layout); err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "logs in the engine's memory were not fetched", "err", err)
	}
}
