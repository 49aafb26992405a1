package mysqlfamily

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/execx"
)

// Variable is a global variable as the running server has it.
type Variable struct {
	Kind   VariableKind
	Global string // the value; "" also for NULL
	Static bool   // it changes with a start only
}

// VariableKind is what type of value a variable wants.
type VariableKind int

// The kinds.
const (
	KindText VariableKind = iota
	KindInteger
	KindFloat
	KindBoolean
	KindFlags // those that a value does not name stay as they are
)

// change is a parameter whose value shall be another one.
type change struct {
	name  string
	value string
	unset bool // back to the server's default
}

// variablePattern is what a value in the init file may be: nothing in it ends the statement.
var variablePattern = regexp.MustCompile(`^[A-Za-z0-9_+:/-]{1,64}$`)

func (p *Product) checkVariable(name, value string) error {
	if p.isVariable(name) && !variablePattern.MatchString(value) {
		return trove.Errorf(trove.KindBadRequest, "The value of the parameter %s cannot be used: it must be a name.", name)
	}
	return nil
}

// Apply implements engine.Configurable. The server is told first and the settings are written last: an agent that dies between has a server that is a
// step ahead, which the next Apply or start mends.
func (e *Engine) Apply(ctx context.Context, l engine.Layout, overrides map[string]json.RawMessage) ([]string, error) {
	p := e.Place(l)
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return nil, err
	}
	next := k.Settings
	next.Overrides = overrides
	changes, err := p.product.differences(k.Settings, next, k.Logs)
	if err != nil {
		return nil, err
	}
	started, err := guestfiles.ReadStarted(p.started(), k.Settings.Overrides) // an agent without this note may have started it
	if err != nil {
		return nil, err
	}
	if len(changes) > 0 {
		if err := p.try(ctx, next, k.Logs...); err != nil {
			return nil, err
		}
	}
	var restart []string
	err = p.With(ctx, func(db *sql.Conn) error {
		known, err := p.product.readVariables(ctx, db, names(changes, started, overrides))
		if err != nil {
			return err
		}
		restart = waiting(known, started, overrides)
		return setAll(ctx, db, known, changes, func() error {
			if err := p.noteGiven(ctx, db, changes); err != nil {
				return err
			}
			k.Settings = next
			if err := p.writeKept(k); err != nil {
				return err
			}
			return p.writeInit(next, nil)
		})
	})
	return restart, err
}

// effective returns the options that settings make, by name, those that nothing changes left out.
func (p *Product) effective(s engine.Settings, logs []string) (map[string]string, error) {
	overrides, err := p.overridden(s.Overrides)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, part := range [][]Option{p.derived(s), logDefaults(logs), overrides, logOptions(logs)} {
		for _, o := range part {
			all[o.Name] = o.Value
		}
	}
	return all, nil
}

// differences returns what is to be set to come from one to the other, ordered by name.
func (p *Product) differences(from, to engine.Settings, logs []string) ([]change, error) {
	next, err := p.effective(to, logs)
	if err != nil {
		return nil, err
	}
	before, err := p.effective(from, logs)
	if err != nil {
		return nil, err
	}
	var all []change
	for name, value := range next {
		if old, had := before[name]; !had || old != value {
			all = append(all, change{name: name, value: value})
		}
	}
	for name := range before {
		if _, has := next[name]; !has {
			all = append(all, change{name: name, unset: true})
		}
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func names(changes []change, maps ...map[string]json.RawMessage) []string {
	var all []string
	for _, c := range changes {
		all = append(all, c.name)
	}
	for _, m := range maps {
		for name := range m {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// waiting returns the parameters whose value the server gets with its next start.
func waiting(known map[string]Variable, started, overrides map[string]json.RawMessage) []string {
	var all []string
	for name := range known {
		if known[name].Static && string(started[name]) != string(overrides[name]) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// readVariables looks the variables up. One that the server does not know is BadRequest.
func (p *Product) readVariables(ctx context.Context, db *sql.Conn, names []string) (map[string]Variable, error) {
	if len(names) == 0 {
		return nil, nil
	}
	known, err := p.ReadVariables(ctx, db, names)
	if err != nil {
		return nil, fmt.Errorf("read the server's variables: %w", err)
	}
	for _, name := range names {
		v, ok := known[name]
		if !ok {
			return nil, trove.Errorf(trove.KindBadRequest, "The server has no parameter %s.", name)
		}
		v.Static = v.Static || slices.Contains(p.StartsOnly, name)
		known[name] = v
	}
	return known, nil
}

// setAll sets what can be set now, then does what makes it last. If either fails the server gets its old values again.
func setAll(ctx context.Context, db *sql.Conn, known map[string]Variable, changes []change, keep func() error) error {
	// So that a value beyond a limit is an error, and not another value with a warning.
	if err := Exec(ctx, db, "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"); err != nil {
		return err
	}
	var done []change
	err := func() error {
		for _, c := range changes {
			if known[c.name].Static {
				continue
			}
			if err := set(ctx, db, known[c.name], c); err != nil {
				return err
			}
			done = append(done, change{name: c.name, value: known[c.name].Global})
		}
		return keep()
	}()
	if err == nil {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	for _, c := range slices.Backward(done) {
		if revert := set(back, db, known[c.name], c); revert != nil {
			err = errors.Join(err, fmt.Errorf("set %s back: %w", c.name, revert))
		}
	}
	return err
}

// set sets one variable. What the server says against the value is BadRequest.
func set(ctx context.Context, db *sql.Conn, v Variable, c change) error {
	statement := "SET GLOBAL " + c.name + " = " // the name is one that the server knows
	var err error
	if c.unset || v.Kind == KindFlags {
		_, err = db.ExecContext(ctx, statement+"DEFAULT")
	}
	if err == nil && !c.unset {
		_, err = db.ExecContext(ctx, statement+"?", literal(v.Kind, c.value))
	}
	e, refused := errors.AsType[*mysql.MySQLError](err)
	if refused && trove.KindOf(classify(err)) != trove.KindUnavailable {
		return trove.Wrap(trove.KindBadRequest, err, "The database refuses the value of the parameter %s: %s.", c.name, strings.TrimSuffix(e.Message, "."))
	}
	return err
}

// literal gives a value the type that the server wants for a variable.
func literal(kind VariableKind, value string) any {
	switch {
	case kind == KindFloat:
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			return f
		}
	case kind == KindInteger:
		if n, ok := size(value); ok {
			return n
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n
		}
	case kind == KindBoolean && (value == "0" || value == "1"):
		return value == "1"
	}
	return value
}

// size reads a whole number with the suffix of an option: 64M.
func size(text string) (uint64, bool) {
	digits := strings.TrimRight(text, "kKmMgG")
	shift := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}
	by, ok := shift[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 64)
	return n << by, ok && err == nil && n<<by>>by == n
}

// tryTimeout bounds a trial, whose answer is waited for 15 s; it takes 50 ms, and seconds with buffers of gigabytes on a busy machine.
const tryTimeout = 12 * time.Second

// try lets the program read the options without serving, in an empty directory: what it says no to would keep the server from starting. Without overrides
// there is nothing to try.
func (p Place) try(ctx context.Context, s engine.Settings, logs ...string) error {
	if len(s.Overrides) == 0 {
		return nil
	}
	config, err := p.render(s, logs...)
	if err != nil {
		return err
	}
	if err := guestfiles.Write(p.trial(), config, 0o400, p.UID, p.GID); err != nil {
		return err
	}
	defer func() { _ = os.Remove(p.trial()) }()       // the next trial replaces it
	dir, err := os.MkdirTemp(p.RuntimeDir(), "trial") // in the tmpfs
	if err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // it is empty
		return fmt.Errorf("try the settings: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var said strings.Builder
	c := execx.Cmd{
		Path: p.Program(p.product.Server), Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, Dir: "/", Stderr: &said,
		Args: append([]string{"--defaults-file=" + p.trial()}, p.product.TrialArgs(dir)...),
	}
	if os.Geteuid() == 0 {
		c.Attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}}
	}
	_, err = execx.Run(ctx, c)
	if ctx.Err() != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The settings could not be tried in time.")
	}
	if words := p.product.Complaint.FindStringSubmatch(said.String()); words != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values: %s.", strings.TrimSuffix(words[1], "."))
	}
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values.")
	}
	return nil
}
