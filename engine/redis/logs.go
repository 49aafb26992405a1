package redis

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// The names of the logs. error is the server's own, which is always on. Slow commands the server keeps in memory and writes nowhere: the agent does, in slow.go.
const (
	logError = "error"
	logSlow  = "slow_query"
)

// Logs implements engine.LogSource.
func (e *Engine) Logs(_ context.Context, l engine.Layout) ([]engine.Log, error) {
	p := e.at(l)
	k, err := p.readKept()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return []engine.Log{
		{Name: logError, System: true, Enabled: true, Path: p.logFile()},
		{Name: logSlow, Enabled: slices.Contains(k.Logs, logSlow), Path: p.slowFile()},
	}, nil
}

// SetLog implements engine.LogSource.
func (e *Engine) SetLog(ctx context.Context, l engine.Layout, name string, on bool) error {
	switch name {
	case logError:
		return trove.Errorf(trove.KindBadRequest, "The log %s is always on.", name)
	case logSlow:
	default:
		return trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
	}
	p := e.at(l)
	e.slow.Lock()
	defer e.slow.Unlock()
	e.mu.Lock()
	k, err := p.readKept()
	e.mu.Unlock()
	if err != nil || slices.Contains(k.Logs, name) == on {
		return err
	}
	if on {
		err = p.beginSlow(ctx)
	} else {
		err = p.keepSlow(ctx) // what is in memory belongs to it
	}
	if err != nil && trove.KindOf(err) != trove.KindUnavailable { // of a server that is down the memory is gone
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if k, err = p.readKept(); err != nil {
		return err
	}
	k.Logs = nil
	if on {
		k.Logs = []string{name}
	}
	return p.writeKept(k)
}

// KeepLogs implements engine.LogKeeper.
func (e *Engine) KeepLogs(ctx context.Context, l engine.Layout) error {
	p := e.at(l)
	e.slow.Lock()
	defer e.slow.Unlock()
	k, err := p.readKept()
	if err != nil || !slices.Contains(k.Logs, logSlow) {
		return err
	}
	return p.keepSlow(ctx)
}
