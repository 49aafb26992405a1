package mysqlfamily

import (
	"context"
	"database/sql"
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
	given, err := p.given().Read()
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
func (p Place) given() guestfiles.Given {
	return guestfiles.Given(filepath.Join(p.RuntimeDir(), "given.json"))
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
	now := map[string]string{}
	for name, v := range known {
		now[name] = v.Global
	}
	return p.given().Add(now)
}
