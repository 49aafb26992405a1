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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/execx"
)

// variable is a system variable as the running server has it.
type variable struct {
	kind   string // VARIABLE_TYPE
	global string // the value; "" also for NULL
	static bool   // it changes with a start only
}

// change is a parameter whose value shall be another one.
type change struct {
	name  string
	value string
	unset bool // back to the server's default
}

// variablePattern is what a value in the init file may be: nothing in it ends the statement.
var variablePattern = regexp.MustCompile(`^[A-Za-z0-9_+:/-]{1,64}$`)

func checkVariable(name, value string) error {
	if isVariable(name) && !variablePattern.MatchString(value) {
		return trove.Errorf(trove.KindBadRequest, "The value of the parameter %s cannot be used: it must be a name.", name)
	}
	return nil
}

// Apply implements engine.Configurable. The server is told first and the settings are written last: an agent that dies between has a server that is a
// step ahead, which the next Apply or start mends.
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
	next := k.Settings
	next.Overrides = overrides
	changes, err := differences(k.Settings, next, k.Logs)
	if err != nil {
		return nil, err
	}
	started, err := p.readStarted(k.Settings.Overrides)
	if err != nil {
		return nil, err
	}
	if len(changes) > 0 {
		if err := p.try(ctx, next, k.Logs...); err != nil {
			return nil, err
		}
	}
	var restart []string
	err = p.with(ctx, func(db *sql.Conn) error {
		known, err := readVariables(ctx, db, names(changes, started, overrides))
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
func effective(s engine.Settings, logs []string) (map[string]string, error) {
	overrides, err := overridden(s.Overrides)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, part := range [][]option{derived(s), logDefaults(logs), overrides, logOptions(logs)} {
		for _, o := range part {
			all[o.name] = o.value
		}
	}
	return all, nil
}

// differences returns what is to be set to come from one to the other, ordered by name.
func differences(from, to engine.Settings, logs []string) ([]change, error) {
	next, err := effective(to, logs)
	if err != nil {
		return nil, err
	}
	before, err := effective(from, logs)
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
func waiting(known map[string]variable, started, overrides map[string]json.RawMessage) []string {
	var all []string
	for name := range known {
		if known[name].static && string(started[name]) != string(overrides[name]) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// readVariables looks the variables up. One that the server does not know is BadRequest.
func readVariables(ctx context.Context, db *sql.Conn, names []string) (map[string]variable, error) {
	if len(names) == 0 {
		return nil, nil
	}
	known := map[string]variable{}
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	err := texts(ctx, db, 4, func(v []string) {
		known[v[0]] = variable{kind: v[1], global: v[2], static: v[3] == "YES" || slices.Contains(startsOnly, v[0])}
	}, `SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, COALESCE(GLOBAL_VALUE, ''), READ_ONLY FROM information_schema.SYSTEM_VARIABLES
WHERE VARIABLE_SCOPE <> 'SESSION ONLY' AND LOWER(VARIABLE_NAME) IN (?`+strings.Repeat(",?", len(names)-1)+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the server's variables: %w", err)
	}
	for _, name := range names {
		if _, ok := known[name]; !ok {
			return nil, trove.Errorf(trove.KindBadRequest, "The server has no parameter %s.", name)
		}
	}
	return known, nil
}

// setAll sets what can be set now, then does what makes it last. If either fails the server gets its old values again.
func setAll(ctx context.Context, db *sql.Conn, known map[string]variable, changes []change, keep func() error) error {
	// So that a value beyond a limit is an error, and not another value with a warning.
	if err := exec(ctx, db, "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"); err != nil {
		return err
	}
	var done []change
	err := func() error {
		for _, c := range changes {
			if known[c.name].static {
				continue
			}
			if err := set(ctx, db, known[c.name], c); err != nil {
				return err
			}
			done = append(done, change{name: c.name, value: known[c.name].global})
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
func set(ctx context.Context, db *sql.Conn, v variable, c change) error {
	statement := "SET GLOBAL " + c.name + " = " // the name is one that the server knows
	var err error
	if c.unset || v.kind == "FLAGSET" { // flags that a value does not name would stay as they are
		_, err = db.ExecContext(ctx, statement+"DEFAULT")
	}
	if err == nil && !c.unset {
		_, err = db.ExecContext(ctx, statement+"?", literal(v.kind, c.value))
	}
	e, refused := errors.AsType[*mysql.MySQLError](err)
	if refused && trove.KindOf(classify(err)) != trove.KindUnavailable {
		return trove.Wrap(trove.KindBadRequest, err, "The database refuses the value of the parameter %s: %s.", c.name, strings.TrimSuffix(e.Message, "."))
	}
	return err
}

// literal gives a value the type that the server wants for a variable.
func literal(kind, value string) any {
	switch {
	case kind == "DOUBLE":
		if f, err := strconv.ParseFloat(value, 64); err == nil {
			return f
		}
	case strings.Contains(kind, "INT"):
		if n, ok := size(value); ok {
			return n
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n
		}
	case kind == "BOOLEAN" && (value == "0" || value == "1"):
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

// complaint finds what a trial says against an option.
var complaint = regexp.MustCompile(`(?m)\[ERROR\] (?:[^\n]*?mariadbd: |Buffered error: )*([^\n]+)`)

// try lets the program read the options without serving, in an empty directory: what it says no to would keep the server from starting. Without overrides
// there is nothing to try.
func (p place) try(ctx context.Context, s engine.Settings, logs ...string) error {
	if len(s.Overrides) == 0 {
		return nil
	}
	config, err := p.render(s, logs...)
	if err != nil {
		return err
	}
	if err := writeFor(p.trial(), config, 0o400, p.UID, p.GID); err != nil {
		return err
	}
	defer func() { _ = os.Remove(p.trial()) }()    // the next trial replaces it
	dir, err := os.MkdirTemp(p.runtime(), "trial") // in the tmpfs
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
		Path: p.program("usr/sbin/mariadbd"), Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, Dir: "/", Stderr: &said,
		Args: []string{"--defaults-file=" + p.trial(), "--datadir=" + dir, "--skip-log-error", "--verbose", "--help"},
	}
	if os.Geteuid() == 0 {
		c.Attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}}
	}
	_, err = execx.Run(ctx, c)
	if ctx.Err() != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The settings could not be tried in time.")
	}
	if words := complaint.FindStringSubmatch(said.String()); words != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values: %s.", strings.TrimSuffix(words[1], "."))
	}
	if err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values.")
	}
	return nil
}

// writeStarted notes the overrides that the server is started with. The tmpfs ends with the boot, and so does the server.
func (p place) writeStarted(overrides map[string]json.RawMessage) error {
	if overrides == nil {
		overrides = map[string]json.RawMessage{}
	}
	data, err := json.Marshal(overrides)
	if err != nil {
		return fmt.Errorf("note what the server was started with: %w", err)
	}
	return writeFor(p.started(), data, 0o600, os.Geteuid(), os.Getegid())
}

// readStarted returns them; of a server that an agent without this note has started it is what was kept.
func (p place) readStarted(kept map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	data, err := os.ReadFile(p.started())
	if errors.Is(err, fs.ErrNotExist) {
		return maps.Clone(kept), nil
	}
	var started map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &started)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the server was started with: %w", err)
	}
	return started, nil
}
