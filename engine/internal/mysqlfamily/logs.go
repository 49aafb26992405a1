package mysqlfamily

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// The names of the logs, which are Trove's.
const (
	logError   = "error"
	logGeneral = "general"
	logSlow    = "slow_query"
)

// slowAfter is from how many seconds on a query is slow, as in Trove; an override of long_query_time replaces it.
const slowAfter = "1"

// logVariable is what switches a log.
var logVariable = map[string]string{logGeneral: "general_log", logSlow: "slow_query_log"}

// Logs implements engine.LogSource.
func (e *Engine) Logs(_ context.Context, l engine.Layout) ([]engine.Log, error) {
	p := e.Place(l)
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	on := func(name string) bool {
		if slices.Contains(k.Logs, name) {
			return true
		}
		value, err := texts.Value(k.Settings.Overrides[logVariable[name]])
		return err == nil && slices.Contains([]string{"ON", "on", "1"}, value)
	}
	return []engine.Log{
		{Name: logError, System: true, Enabled: true, Path: p.errorLog()},
		{Name: logGeneral, Enabled: on(logGeneral), Path: p.generalLog()},
		{Name: logSlow, Enabled: on(logSlow), Path: p.slowLog()},
	}, nil
}

// SetLog implements engine.LogSource.
func (e *Engine) SetLog(ctx context.Context, l engine.Layout, name string, on bool) error {
	switch {
	case name == logError:
		return trove.Errorf(trove.KindBadRequest, "The log %s is always on.", name)
	case logVariable[name] == "":
		return trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.Place(l)
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
	err = p.With(ctx, func(db *sql.Conn) error { return switchLog(ctx, db, name, on, k.Settings) })
	if trove.KindOf(err) == trove.KindUnavailable {
		return nil // a server that is down reads it when it starts
	}
	return err
}

// switchLog tells the running server.
func switchLog(ctx context.Context, db *sql.Conn, name string, on bool, s engine.Settings) error {
	value := "OFF"
	if on {
		value = "ON"
	}
	if err := Exec(ctx, db, "SET GLOBAL "+logVariable[name]+" = "+value); err != nil {
		return err
	}
	if _, chosen := s.Overrides["long_query_time"]; name != logSlow || !on || chosen {
		return nil
	}
	return Exec(ctx, db, "SET GLOBAL long_query_time = "+slowAfter)
}

// logDefaults are options that an override replaces.
func logDefaults(logs []string) []Option {
	if slices.Contains(logs, logSlow) {
		return []Option{{"long_query_time", slowAfter}}
	}
	return nil
}

// logOptions switch logs on.
func logOptions(logs []string) []Option {
	var options []Option
	for _, name := range logs {
		options = append(options, Option{logVariable[name], "ON"})
	}
	return options
}
