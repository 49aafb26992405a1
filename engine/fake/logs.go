package fake

import (
	"context"
	"path/filepath"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// The methods of the logs that can be made to fail.
const (
	OpLogs   Op = "logs"
	OpSetLog Op = "set-log"
)

const generalLog = "general"

var _ engine.LogSource = (*Engine)(nil)

// Logs implements engine.LogSource: the server's errors, and a log that can be switched and that nobody writes to.
func (e *Engine) Logs(_ context.Context, l engine.Layout) ([]engine.Log, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpLogs); err != nil {
		return nil, err
	}
	s, err := read(l)
	if err != nil {
		return nil, err
	}
	return []engine.Log{
		{Name: "error", System: true, Enabled: true, Path: LogFile(l)},
		{Name: generalLog, Enabled: slices.Contains(s.Logs, generalLog), Path: filepath.Join(dataDir(l), "general.log")},
	}, nil
}

// SetLog implements engine.LogSource.
func (e *Engine) SetLog(_ context.Context, l engine.Layout, name string, on bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpSetLog); err != nil {
		return err
	}
	switch name {
	case "error":
		return trove.Errorf(trove.KindBadRequest, "The log %s is always on.", name)
	case generalLog:
	default:
		return trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
	}
	s, err := read(l)
	if err != nil {
		return err
	}
	s.Logs = nil
	if on {
		s.Logs = []string{name}
	}
	return write(l, s)
}
