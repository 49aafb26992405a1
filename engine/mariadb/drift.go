package mariadb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/engine"
)

var _ engine.DriftSource = (*Engine)(nil)

// Drift implements engine.DriftSource. The server itself tells which values came by SQL; those that Apply set are known by how the server wrote them
// then, because it rounds some.
func (e *Engine) Drift(ctx context.Context, l engine.Layout) ([]engine.Difference, error) {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	want, err := effective(k.Settings, k.Logs)
	if err != nil {
		return nil, err
	}
	given, err := p.readGiven()
	if err != nil {
		return nil, err
	}
	all := []engine.Difference{}
	err = p.with(ctx, func(db *sql.Conn) error {
		return texts(ctx, db, 3, func(v []string) {
			name, kind, is := v[0], v[1], v[2]
			wanted, ours := want[name]
			if last, ok := given[name]; !ours || ok && last == is || sameValue(kind, wanted, is) {
				return
			}
			all = append(all, engine.Difference{Name: name, Want: wanted, Is: is})
		}, `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, COALESCE(GLOBAL_VALUE, '') FROM information_schema.SYSTEM_VARIABLES
WHERE GLOBAL_VALUE_ORIGIN = 'SQL' ORDER BY 1`)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// sameValue compares a value as an option has it with what the server shows.
func sameValue(kind, option, shown string) bool {
	if strings.EqualFold(option, shown) {
		return true
	}
	if kind == "BOOLEAN" {
		return truth(option) == truth(shown)
	}
	if kind == "SET" {
		return slices.Equal(members(option), members(shown))
	}
	want, ok1 := size(option)
	is, ok2 := size(shown)
	return ok1 && ok2 && want == is
}

func truth(text string) bool {
	switch strings.ToLower(text) {
	case "1", "on", "true", "yes":
		return true
	}
	return false
}

func members(text string) []string {
	all := strings.Split(strings.ToLower(text), ",")
	slices.Sort(all)
	return all
}

// given is where it is noted how the server wrote what it was given while it ran. The tmpfs ends with the boot, and Command empties it.
func (p place) given() string { return filepath.Join(p.runtime(), "given.json") }

func (p place) readGiven() (map[string]string, error) {
	data, err := os.ReadFile(p.given())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all map[string]string
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the server was given: %w", err)
	}
	return all, nil
}

// noteGiven reads back what was set just now.
func (p place) noteGiven(ctx context.Context, db *sql.Conn, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	known, err := readVariables(ctx, db, names(changes))
	if err != nil {
		return err
	}
	before, err := p.readGiven()
	if err != nil {
		return err
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[string]string{}
	}
	for name, v := range known {
		all[name] = v.global
	}
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("note what the server was given: %w", err)
	}
	return writeFor(p.given(), data, 0o600, os.Geteuid(), os.Getegid())
}

// forgetGiven is for a new start of the server: what it has then is in its files.
func (p place) forgetGiven() error {
	if err := os.Remove(p.given()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what the server was given: %w", err)
	}
	return nil
}
