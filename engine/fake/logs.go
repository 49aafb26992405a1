package fake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// The methods of the logs that can be made to fail.
const (
	OpLogs   Op = "logs"
	OpSetLog Op = "set-log"
	OpKeep   Op = "keep-logs"
)

const generalLog = "general"

var (
	_ engine.LogSource = (*Engine)(nil)
	_ engine.LogKeeper = (*Engine)(nil)
)

// Logs implements engine.LogSource: the server's errors, and a log that can be switched and that KeepLogs writes to.
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
		{Name: generalLog, Enabled: slices.Contains(s.Logs, generalLog), Path: generalFile(l)},
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

func generalFile(l engine.Layout) string { return filepath.Join(dataDir(l), "general.log") }

// Remember gives the log general a line that the server has in its memory.
func (e *Engine) Remember(line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, line)
}

// KeepLogs implements engine.LogKeeper.
func (e *Engine) KeepLogs(_ context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpKeep); err != nil {
		return err
	}
	s, err := read(l)
	if err != nil || !slices.Contains(s.Logs, generalLog) || len(e.lines) == 0 {
		return err
	}
	f, err := os.OpenFile(generalFile(l), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep the log %s: %w", generalLog, err)
	}
	_, err = f.WriteString(strings.Join(e.lines, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the log %s: %w", generalLog, err)
	}
	e.lines = nil
	return nil
}
