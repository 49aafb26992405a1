package mysqlfamily

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
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

var _ engine.DriftSource = (*Engine)(nil)

// Drift implements engine.DriftSource. The server itself tells which values came by SQL; those that Apply set are known by how the server wrote them
// then, because it rounds some.
func (e *Engine) Drift(ctx context.Context, l engine.Layout) ([]engine.Difference, error) {
	p := e.Place(l)
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	want, err := e.product.effective(k.Settings, k.Logs)
	if err != nil {
		return nil, err
	}
	given, err := p.readGiven()
	if err != nil {
		return nil, err
	}
	all := []engine.Difference{}
	err = p.With(ctx, func(db *sql.Conn) error {
		return Texts(ctx, db, 3, func(v []string) {
			name, kind, is := v[0], v[1], v[2]
			wanted, ours := want[name]
			if last, ok := given[name]; !ours || ok && last == is || sameValue(kind, wanted, is) {
				return
			}
			all = append(all, engine.Difference{Name: name, Want: wanted, Is: is})
		}, e.product.SQL.Drifted)
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
	if strings.EqualFold(kind, "boolean") {
		return truth(option) == truth(shown)
	}
	if strings.EqualFold(kind, "set") {
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
func (p Place) given() string { return filepath.Join(p.RuntimeDir(), "given.json") }

func (p Place) readGiven() (map[string]string, error) {
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
func (p Place) noteGiven(ctx context.Context, db *sql.Conn, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	known, err := p.product.readVariables(ctx, db, names(changes))
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
		all[name] = v.Global
	}
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("note what the server was given: %w", err)
	}
	return guestfiles.Write(p.given(), data, 0o600, os.Geteuid(), os.Getegid())
}

// forgetGiven is for a new start of the server: what it has then is in its files.
func (p Place) forgetGiven() error {
	if err := os.Remove(p.given()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what the server was given: %w", err)
	}
	return nil
}
