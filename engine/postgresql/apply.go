package postgresql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// Apply implements engine.Configurable. A trial says what the server would not start with; then the running server reads the new file, and what it says no to
// brings the old file back. The settings are written last: an agent that dies between has a server that is a step ahead, which the next Apply or start mends.
func (e *Engine) Apply(ctx context.Context, l engine.Layout, overrides map[string]json.RawMessage) ([]string, error) {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return nil, err
	}
	next := k
	next.Settings.Overrides = overrides
	if _, err := p.render(next.Settings, next.Logs...); err != nil {
		return nil, err
	}
	started, err := guestfiles.ReadStarted(p.started(), k.Settings.Overrides) // an agent without this note may have started it
	if err != nil {
		return nil, err
	}
	same := maps.EqualFunc(k.Settings.Overrides, overrides, func(a, b json.RawMessage) bool { return string(a) == string(b) })
	if !same {
		if err := p.try(ctx, next.Settings, next.Logs...); err != nil {
			return nil, err
		}
	}
	var restart []string
	err = p.with(ctx, adminDB, func(c conn) error {
		static, err := readStatic(ctx, c, started, overrides)
		if err != nil {
			return err
		}
		restart = waiting(static, started, overrides)
		if same {
			return nil
		}
		if err := p.change(ctx, c, k, next); err != nil {
			return err
		}
		return nil
	})
	return restart, err
}

// change lets the server read the new file; when it refuses a value, or the settings cannot be kept, it reads the old one again.
func (p place) change(ctx context.Context, c conn, old, next kept) error {
	err := p.writeConfig(next)
	if err == nil {
		err = c.reload(ctx)
	}
	if err == nil {
		err = c.complaint(ctx, next.Settings.Overrides)
	}
	if err == nil {
		err = p.writeKept(next)
	}
	if err == nil {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	revert := p.writeConfig(old)
	if revert == nil {
		revert = c.reload(back)
	}
	if revert != nil {
		err = fmt.Errorf("%w; and the old settings did not come back: %w", err, revert)
	}
	return err
}

// complaint returns what the server has against the file that it has read: an error of a line, or a value that it did not take. What waits for a restart is
// no complaint.
func (c conn) complaint(ctx context.Context, overrides map[string]json.RawMessage) error {
	// Of a parameter that is not in the file any more the name stands in the error alone, in the words of the session's language.
	rows, err := c.rows(ctx, `SELECT COALESCE(f.name, substring(f.error FROM '^parameter "(.*)"'), ''), f.error FROM pg_file_settings f
		LEFT JOIN pg_settings s ON lower(s.name) = lower(COALESCE(f.name, substring(f.error FROM '^parameter "(.*)" cannot be changed without restarting the server$')))
		WHERE f.error IS NOT NULL AND COALESCE(s.context, '') <> 'postmaster'`)
	if err != nil {
		return fmt.Errorf("read what the server says of its settings: %w", err)
	}
	if len(rows) > 0 {
		return refused(rows[0][0], rows[0][1])
	}
	for name, raw := range overrides {
		want, err := texts.Value(raw)
		if err != nil {
			return err
		}
		got, there, err := c.one(ctx, "SELECT setting FROM pg_file_settings WHERE lower(name) = $1 AND applied", name)
		if err != nil {
			return fmt.Errorf("read the parameter %s back: %w", name, err)
		}
		if there && got != want {
			return refused(name, "the server has "+got)
		}
	}
	return nil
}

func refused(name, why string) error {
	return trove.Errorf(trove.KindBadRequest, "The database refuses the value of the parameter %s: %s.", name, strings.TrimSuffix(why, "."))
}

// waiting returns the parameters whose value the server gets with its next start.
func waiting(static []string, started, overrides map[string]json.RawMessage) []string {
	var all []string
	for _, name := range static {
		if string(started[name]) != string(overrides[name]) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// readStatic returns those of the parameters that change with a start only. One that the server does not know is BadRequest.
func readStatic(ctx context.Context, c conn, maps ...map[string]json.RawMessage) ([]string, error) {
	rows, err := c.rows(ctx, "SELECT lower(name), context FROM pg_settings")
	if err != nil {
		return nil, fmt.Errorf("read the server's parameters: %w", err)
	}
	contexts := map[string]string{}
	for _, r := range rows {
		contexts[r[0]] = r[1]
	}
	var static []string
	for _, m := range maps {
		for name := range m {
			switch contexts[name] {
			case "":
				if !strings.Contains(name, ".") { // an extension's that no session here has loaded
					return nil, trove.Errorf(trove.KindBadRequest, "The server has no parameter %s.", name)
				}
			case "internal":
				return nil, trove.Errorf(trove.KindBadRequest, "The parameter %s cannot be changed.", name)
			case "postmaster":
				static = append(static, name)
			}
		}
	}
	slices.Sort(static)
	return slices.Compact(static), nil
}
