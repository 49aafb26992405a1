package enginetest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// logs switches every log that can be switched, and looks that it stays so over a restart and a change of the settings.
func logs(t *testing.T, s Setup) {
	source, ok := s.Engine.(engine.LogSource)
	if !ok {
		return // it has none
	}
	ctx, l := t.Context(), s.Layout
	server := started(t, s)
	all, err := source.Logs(ctx, l)
	must(t, err)
	if !slices.IsSortedFunc(all, func(a, b engine.Log) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("Logs() = %+v, want them ordered by name", all)
	}
	enabled := func(name string) bool {
		t.Helper()
		all, err := source.Logs(ctx, l)
		must(t, err)
		i := slices.IndexFunc(all, func(each engine.Log) bool { return each.Name == name })
		return all[i].Enabled
	}
	for _, log := range all {
		if !filepath.IsAbs(log.Path) || log.System && !log.Enabled {
			t.Errorf("log %+v: its path must be absolute, and a system's log is always on", log)
		}
		if log.System {
			wantKind(t, "SetLog of a system's log", source.SetLog(ctx, l, log.Name, false), trove.KindBadRequest)
			continue
		}
		for range 2 {
			must(t, source.SetLog(ctx, l, log.Name, true))
		}
		if !enabled(log.Name) {
			t.Errorf("log %s is off after it was switched on", log.Name)
		}
	}
	wantKind(t, "SetLog of no log", source.SetLog(ctx, l, "no-such", true), trove.KindNotFound)
	must(t, s.Engine.Configure(ctx, l, engine.Settings{RAM: 512, VCPUs: 1}))
	server.Stop()
	server = Start(t, s)
	for _, log := range all {
		if !enabled(log.Name) {
			t.Errorf("log %s is off after a restart", log.Name)
		}
		if s.LogsWritten {
			if _, err := os.Stat(log.Path); errors.Is(err, os.ErrNotExist) {
				t.Errorf("log %s is on and has no file", log.Name)
			}
		}
		if !log.System {
			must(t, source.SetLog(ctx, l, log.Name, false))
			if enabled(log.Name) {
				t.Errorf("log %s is on after it was switched off", log.Name)
			}
		}
	}
	server.Stop()
	for _, log := range all { // a server that is down is told when it starts
		if !log.System {
			must(t, source.SetLog(ctx, l, log.Name, true))
		}
	}
	server = Start(t, s)
	for _, log := range all {
		if !enabled(log.Name) {
			t.Errorf("log %s is off, and was switched on while the server was down", log.Name)
		}
	}
	server.Stop()
}
