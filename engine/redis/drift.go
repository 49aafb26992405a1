package redis

import (
	"context"
	"maps"
	"slices"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

// Drift implements engine.DriftSource. How the server writes a value is its own affair (1gb is 1073741824, the classes of client-output-buffer-limit are
// all named): it is asked after its start and at each change, and what it says later is compared with that. No tenant may change a parameter, so this is
// somebody in the guest.
func (e *Engine) Drift(ctx context.Context, l engine.Layout) ([]engine.Difference, error) {
	p := e.at(l)
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	options, err := p.options(k.Settings)
	if err != nil {
		return nil, err
	}
	given, err := p.given().Read()
	if err != nil {
		return nil, err
	}
	all := []engine.Difference{}
	err = p.with(ctx, func(c conn) error {
		is, err := c.parameters(ctx, slices.Sorted(maps.Keys(given)))
		if err != nil {
			return err
		}
		for _, o := range options { // ordered by name
			if was, noted := given[o.name]; noted && is[o.name] != was {
				all = append(all, engine.Difference{Name: o.name, Want: o.value, Is: is[o.name]})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// noteStart asks a server that has just started. What it was given since stands: an agent that comes back to a running server notes nothing.
func (p place) noteStart(ctx context.Context, c conn, s engine.Settings) error {
	if there, err := guestfiles.Exists(string(p.given())); err != nil || there {
		return err
	}
	options, err := p.options(s)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(options))
	for _, o := range options {
		names = append(names, o.name)
	}
	is, err := c.parameters(ctx, names)
	if err != nil {
		return err
	}
	return p.given().Write(is)
}

// noteChange adds what the server has taken up just now. What waits for a start is not compared until then.
func (p place) noteChange(changed map[string]string) error {
	return p.given().Add(changed)
}
