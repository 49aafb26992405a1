package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// Apply implements engine.Configurable. A trial with the new settings says whether a server would start with them and what each parameter would be; the
// running one is told that in one command, which it does whole or not at all. The settings are written last: an agent that dies between has a server that
// is a step ahead, which the next Apply or start mends.
func (e *Engine) Apply(ctx context.Context, l engine.Layout, overrides map[string]json.RawMessage) ([]string, error) {
	p := e.at(l)
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
	changed, err := p.differences(k.Settings, next)
	if err != nil {
		return nil, err
	}
	started, err := guestfiles.ReadStarted(p.started(), nil) // nothing: it was not started since the boot
	if err != nil {
		return nil, err
	}
	var static map[string]bool
	var want map[string]string
	err = p.with(ctx, func(c conn) (err error) {
		if static, err = c.statics(ctx, names(changed, started, overrides)); err != nil {
			return err
		}
		if len(changed) > 0 {
			dynamic := slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return static[name] })
			err = p.try(ctx, next, func(t conn) (err error) {
				want, err = t.parameters(ctx, dynamic)
				return err
			})
			if err != nil {
				return err
			}
		}
		k.Settings = next
		return c.setAll(ctx, want, func() error { return p.writeKept(k) })
	})
	if err == nil && len(want) > 0 {
		if err := p.noteChange(want); err != nil {
			e.log.Warn("what the server was given was not noted: it will be taken for somebody else's change", "err", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return waiting(static, started, overrides), nil
}

// differences returns the parameters whose value the two settings differ in, ordered.
func (p place) differences(from, to engine.Settings) ([]string, error) {
	next, err := p.options(to)
	if err != nil {
		return nil, err
	}
	before, err := p.options(from)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, pair := range [][2][]option{{before, next}, {next, before}} {
		for _, o := range pair[0] {
			if !slices.Contains(pair[1], o) {
				all = append(all, o.name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func names(some []string, maps ...map[string]json.RawMessage) []string {
	all := slices.Clone(some)
	for _, m := range maps {
		for name := range m {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// statics tells which of the parameters the server takes up with its start alone. One that it does not know is BadRequest. The rules know most; another one
// is set to the value that it has.
func (c conn) statics(ctx context.Context, names []string) (map[string]bool, error) {
	values, err := c.parameters(ctx, names)
	if err != nil {
		return nil, err
	}
	static := map[string]bool{}
	for _, name := range names {
		value, known := values[name]
		if !known {
			return nil, trove.Errorf(trove.KindBadRequest, "The server has no parameter %s.", name)
		}
		if i := slices.IndexFunc(parameterRules(), func(r trove.Parameter) bool { return r.Name == name }); i >= 0 {
			static[name] = parameterRules()[i].RestartRequired
			continue
		}
		err := c.run(ctx, "CONFIG", "SET", name, value)
		if said, ok := errors.AsType[redis.Error](err); ok {
			static[name] = strings.Contains(string(said), "immutable")
		} else if err != nil {
			return nil, fmt.Errorf("try parameter %s: %w", name, err)
		}
	}
	return static, nil
}

// waiting returns the parameters whose value the server gets with its next start.
func waiting(static map[string]bool, started, overrides map[string]json.RawMessage) []string {
	var all []string
	for name, waits := range static {
		if waits && string(started[name]) != string(overrides[name]) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// setAll sets the parameters, reads them back, and does what makes them last. If one of these fails the server gets its old values again.
func (c conn) setAll(ctx context.Context, want map[string]string, keep func() error) error {
	var names []string
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	before, err := c.parameters(ctx, names)
	if err != nil {
		return err
	}
	if err := c.set(ctx, names, want); err != nil {
		return err
	}
	if err = c.mustHave(ctx, names, want); err == nil {
		err = keep()
	}
	if err == nil {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
	defer cancel()
	return errors.Join(err, c.set(back, names, before))
}

// mustHave reads the parameters back.
func (c conn) mustHave(ctx context.Context, names []string, want map[string]string) error {
	got, err := c.parameters(ctx, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if got[name] != want[name] {
			return trove.Errorf(trove.KindBadRequest, "The database did not take up the value of the parameter %s: it has %q.", name, got[name])
		}
	}
	return nil
}

// refusal finds the parameter and the reason in what the server says against CONFIG SET.
var refusal = regexp.MustCompile(`argument '([^']+)'\) - (.+)$`)

// set sets parameters, all or none. What the server says against a value is BadRequest.
func (c conn) set(ctx context.Context, names []string, values map[string]string) error {
	if len(names) == 0 {
		return nil
	}
	args := []any{"SET"}
	for _, name := range names {
		args = append(args, name, values[name])
	}
	err := c.run(ctx, "CONFIG", args...)
	if said, ok := errors.AsType[redis.Error](err); ok {
		if words := refusal.FindStringSubmatch(string(said)); words != nil {
			return trove.Wrap(trove.KindBadRequest, err, "The database refuses the value of the parameter %s: %s.", words[1], strings.TrimSuffix(words[2], "."))
		}
	}
	return err
}
