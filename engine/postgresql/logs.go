package postgresql

import (
	"context"
	"errors"
	"os"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// The names of the logs, which are Trove's. PostgreSQL writes one file: a log that is switched on is lines in it.
const (
	logError   = "error"
	logGeneral = "general"
	logSlow    = "slow_query"
)

// slowAfter is from which duration on a statement is slow, in milliseconds, as with the other engines; an override replaces it.
const slowAfter = "1000"

// Logs implements engine.LogSource.
func (e *Engine) Logs(_ context.Context, l engine.Layout) ([]engine.Log, error) {
	p := place{l}
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	on := func(name, parameter, off string) bool {
		if slices.Contains(k.Logs, name) {
			return true
		}
		value, err := texts.Value(k.Settings.Overrides[parameter])
		return err == nil && value != off
	}
	return []engine.Log{
		{Name: logError, System: true, Enabled: true, Path: p.logFile()},
		{Name: logGeneral, Enabled: on(logGeneral, "log_statement", "none"), Path: p.logFile()},
		{Name: logSlow, Enabled: on(logSlow, "log_min_duration_statement", "-1"), Path: p.logFile()},
	}, nil
}

// SetLog implements engine.LogSource.
func (e *Engine) SetLog(ctx context.Context, l engine.Layout, name string, on bool) error {
	switch name {
	case logError:
		return trove.Errorf(trove.KindBadRequest, "The log %s is always on.", name)
	case logGeneral, logSlow:
	default:
		return trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return err
	}
	logs := guestfiles.Switched(k.Logs, name, on)
	if !slices.Equal(logs, k.Logs) {
		k.Logs = logs
		if err := p.writeKept(k); err != nil {
			return err
		}
	}
	return p.reread(ctx, k)
}

// logDefaults are options that an override replaces.
func logDefaults(logs []string) []option {
	if slices.Contains(logs, logSlow) {
		return []option{{"log_min_duration_statement", slowAfter}}
	}
	return nil
}

// logOptions switch logs on.
func logOptions(logs []string) []option {
	if slices.Contains(logs, logGeneral) {
		return []option{{"log_statement", "all"}}
	}
	return nil
}
