package guestfiles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
)

// Given is the file that says how a running server wrote what it was given, by parameter: what the server says later is compared with it. It is the agent's alone, in a
// runtime directory, whose tmpfs ends with the boot.
type Given string

// Read returns nil if nothing was noted.
func (g Given) Read() (map[string]string, error) {
	data, err := os.ReadFile(string(g))
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

// Write notes this in place of all that was noted.
func (g Given) Write(all map[string]string) error {
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("note what the server was given: %w", err)
	}
	return Write(string(g), data, 0o600, os.Geteuid(), os.Getegid())
}

// Add notes what was given besides.
func (g Given) Add(more map[string]string) error {
	all, err := g.Read()
	if err != nil {
		return err
	}
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	return g.Write(all)
}

// Forget is for a new start of the server: what it has then is in its files. Nothing noted is fine.
func (g Given) Forget() error {
	if err := os.Remove(string(g)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what the server was given: %w", err)
	}
	return nil
}
