package fake

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// OpApply is the method that changes parameters of a running server.
const OpApply Op = "apply"

// staticPrefix begins the names of parameters whose values come with a start.
const staticPrefix = "static_"

var _ engine.Configurable = (*Engine)(nil)

// Parameters implements engine.Configurable.
func (*Engine) Parameters() []trove.Parameter {
	return []trove.Parameter{
		{Name: "max_things", Type: trove.ParameterInteger, Min: "1", Max: "1000"},
		{Name: "static_things", Type: trove.ParameterInteger, Min: "1", Max: "1000", RestartRequired: true},
	}
}

// Defaults implements engine.Configurable.
func (*Engine) Defaults(s engine.Settings) map[string]string {
	return map[string]string{"max_things": strconv.Itoa(s.RAM), "port": "3306"}
}

// Apply implements engine.Configurable. An override called "invalid" is BadRequest.
func (e *Engine) Apply(_ context.Context, l engine.Layout, overrides map[string]json.RawMessage) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpApply); err != nil {
		return nil, err
	}
	s, err := read(l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Wrap(trove.KindConflict, err, "The server was not prepared yet.")
	}
	if err != nil {
		return nil, err
	}
	if _, bad := overrides["invalid"]; bad {
		return nil, trove.Errorf(trove.KindBadRequest, "The parameter invalid cannot be set.")
	}
	if err := up(l); err != nil {
		return nil, err
	}
	for name := range merged(s.Settings.Overrides, overrides) {
		if string(s.Settings.Overrides[name]) != string(overrides[name]) {
			delete(s.Changed, name)
		}
	}
	s.Settings.Overrides = overrides
	var waiting []string
	for name := range maps.Keys(merged(s.Started, overrides)) {
		if strings.HasPrefix(name, staticPrefix) && string(s.Started[name]) != string(overrides[name]) {
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	return waiting, write(l, s)
}

func merged(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	maps.Copy(all, b)
	return all
}
