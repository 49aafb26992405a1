package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
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
	given, err := p.readGiven()
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

// given is where it is noted. The tmpfs ends with the boot, and Command forgets it.
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

func (p place) writeGiven(all map[string]string) error {
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("note what the server was given: %w", err)
	}
	return guestfiles.Write(p.given(), data, 0o600, os.Geteuid(), os.Getegid())
}

func (p place) forgetGiven() error {
	if err := os.Remove(p.given()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what the server was given: %w", err)
	}
	return nil
}

// noteStart asks a server that has just started. What it was given since stands: an agent that comes back to a running server notes nothing.
func (p place) noteStart(ctx context.Context, c conn, s engine.Settings) error {
	if there, err := guestfiles.Exists(p.given()); err != nil || there {
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
	return p.writeGiven(is)
}

// noteChange adds what the server has taken up just now. What waits for a start is not compared until then.
func (p place) noteChange(changed map[string]string) error {
	given, err := p.readGiven()
	if err != nil {
		return err
	}
	all := maps.Clone(given)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, changed)
	return p.writeGiven(all)
}
