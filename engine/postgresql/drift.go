package postgresql

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/engine"
)

// Drift implements engine.DriftSource. There are two places that parameters come from beside the driver's file: what ALTER SYSTEM wrote, which counts for
// all and from the next start on for what needs one, and what was set for a database, for a user or for both, which their next sessions begin with.
// Somebody who sets a parameter in a session of his own changes nothing for others: that is no drift.
func (e *Engine) Drift(ctx context.Context, l engine.Layout) ([]engine.Difference, error) {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	options, err := p.options(k.Settings, k.Logs...)
	if err != nil {
		return nil, err
	}
	want := map[string]string{}
	for _, o := range append(options, k.TLS.options(p)...) {
		want[o.name] = o.value
	}
	var all []engine.Difference
	err = p.with(ctx, adminDB, func(c conn) error {
		found, err := c.setElsewhere(ctx)
		if err != nil {
			return err
		}
		all = differences(want, found)
		return nil
	})
	return all, err
}

// differences compares, and joins what was found of one parameter.
func differences(want map[string]string, found []elsewhere) []engine.Difference {
	all := []engine.Difference{}
	for _, f := range found {
		value, ours := want[f.name]
		if !ours || f.same(value) {
			continue
		}
		if n := len(all) - 1; n >= 0 && all[n].Name == f.name {
			all[n].Is += ", " + f.String()
			continue
		}
		all = append(all, engine.Difference{Name: f.name, Want: value, Is: f.String()})
	}
	return all
}

// elsewhere is a value that a parameter has from another place than the driver's file.
type elsewhere struct {
	name, value    string
	kind, unit     string // as pg_settings has them
	database, role string // "": all of them
}

func (e elsewhere) String() string {
	text := e.value
	if e.role != "" {
		text += " for the user " + e.role
	}
	if e.database != "" {
		text += " in the database " + e.database
	}
	return text
}

// setElsewhere returns them, ordered by name, those for all first.
func (c conn) setElsewhere(ctx context.Context) ([]elsewhere, error) {
	// Of a parameter that stands in a file several times the last one counts.
	rows, err := c.rows(ctx, `WITH written AS (
			SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting AS value, '' AS database, '' AS role FROM pg_file_settings
			WHERE sourcefile = current_setting('data_directory') || '/' || $1 ORDER BY lower(name), seqno DESC
		), kept AS (
			SELECT s.setdatabase, s.setrole, unnest(s.setconfig) AS text FROM pg_db_role_setting s
		), found AS (
			SELECT name, value, database, role FROM written UNION ALL
			SELECT lower(split_part(text, '=', 1)), substr(text, strpos(text, '=') + 1), COALESCE(d.datname::text, ''), COALESCE(r.rolname::text, '')
			FROM kept LEFT JOIN pg_database d ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole
		)
		SELECT f.name, f.value, COALESCE(s.vartype, ''), COALESCE(s.unit, ''), f.database, f.role FROM found f LEFT JOIN pg_settings s ON lower(s.name) = f.name
		ORDER BY f.name COLLATE "C", f.database COLLATE "C", f.role COLLATE "C"`, autoConf)
	if err != nil {
		return nil, fmt.Errorf("read the parameters that were changed: %w", err)
	}
	all := make([]elsewhere, 0, len(rows))
	for _, r := range rows {
		all = append(all, elsewhere{name: r[0], value: r[1], kind: r[2], unit: r[3], database: r[4], role: r[5]})
	}
	return all, nil
}

// same reports whether the value means what another text does: 4MB is 4096 where the unit is kB.
func (e elsewhere) same(text string) bool {
	switch e.kind {
	case "bool":
		a, ok1 := truth(e.value)
		b, ok2 := truth(text)
		return ok1 && ok2 && a == b
	case "integer", "real":
		a, ok1 := amount(e.value, e.unit)
		b, ok2 := amount(text, e.unit)
		return ok1 && ok2 && a == b
	case "enum":
		return strings.EqualFold(e.value, text)
	}
	return e.value == text
}

// truth reads a boolean; the server takes each beginning that means one thing.
func truth(text string) (value, ok bool) {
	text = strings.ToLower(text)
	starts := func(word string, least int) bool { return len(text) >= least && strings.HasPrefix(word, text) }
	switch {
	case text == "1", starts("true", 1), starts("yes", 1), starts("on", 2):
		return true, true
	case text == "0", starts("false", 1), starts("no", 1), starts("off", 2):
		return false, true
	}
	return false, false
}

// Units of memory, in bytes, and of time, in microseconds.
var multiples = map[string]float64{
	"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40,
	"us": 1, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6, "d": 86400e6,
}

var (
	amountPattern = regexp.MustCompile(`^\s*([-+]?(?:0[xX][0-9a-fA-F]+|[0-9.]+(?:[eE][-+]?[0-9]+)?))\s*([a-zA-Z]*)\s*$`)
	unitPattern   = regexp.MustCompile(`^([0-9]*)([a-zA-Z]+)$`) // of pg_settings: kB, 8kB, ms
)

// amount reads a number with a unit, or one in the parameter's own unit, and returns it in the smallest unit of its kind.
func amount(text, own string) (float64, bool) {
	words := amountPattern.FindStringSubmatch(text)
	if words == nil {
		return 0, false
	}
	number, err := strconv.ParseFloat(words[1], 64)
	if err != nil {
		whole, err := strconv.ParseInt(words[1], 0, 64) // 0x10
		if err != nil {
			return 0, false
		}
		number = float64(whole)
	}
	if words[2] != "" {
		by, ok := multiples[words[2]]
		return number * by, ok
	}
	unit := unitPattern.FindStringSubmatch(own)
	if unit == nil {
		return number, own == ""
	}
	times := 1.0
	if unit[1] != "" {
		times, _ = strconv.ParseFloat(unit[1], 64) // digits alone
	}
	by, ok := multiples[unit[2]]
	return number * times * by, ok
}
