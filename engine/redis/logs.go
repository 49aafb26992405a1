package redis

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// logError is the server's one log, which is always on. Slow commands it keeps in memory, for SLOWLOG, and writes them nowhere.
const logError = "error"

// Logs implements engine.LogSource.
func (e *Engine) Logs(_ context.Context, l engine.Layout) ([]engine.Log, error) {
	return []engine.Log{{Name: logError, System: true, Enabled: true, Path: e.at(l).logFile()}}, nil
}

// SetLog implements engine.LogSource.
func (e *Engine) SetLog(_ context.Context, _ engine.Layout, name string, _ bool) error {
	if name == logError {
		return trove.Errorf(trove.KindBadRequest, "The log %s is always on.", name)
	}
	return trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
}
