package file

import (
	"fmt"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/secrets/keyring"
)

func readRing(path string) (*keyring.Ring, error) {
	data, err := keyfile.Load(path)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	r, err := keyring.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("master key: %s: %w", path, trove.Permanent(err))
	}
	return r, nil
}

func makeFile() ([]byte, error) {
	line, k, err := keyring.Make(time.Time{})
	if err != nil {
		return nil, err
	}
	return []byte(k.ID + " " + strings.Fields(line)[1] + "\n"), nil // the first key has no time
}

// Keys returns the keys in the file; the first one seals.
func Keys(path string) ([]keyring.Key, error) {
	r, err := readRing(path)
	if err != nil {
		return nil, err
	}
	return r.Keys(), nil
}

// Prepare puts the next key below the others: it opens and does not seal yet, so that copies of the file can be brought to where else it is needed before
// anything is sealed that does not open there. If there is a next key already it stays.
func Prepare(path string, now time.Time) (keyring.Key, error) {
	var made keyring.Key
	err := change(path, func(r *keyring.Ring) ([]string, error) {
		if next, ok := keyring.Next(r.Keys()); ok {
			made = next
			return r.Lines(), nil
		}
		if first := r.Keys()[0].Made.Add(time.Second); now.Before(first) {
			now = first
		}
		line, k, err := keyring.Make(now)
		made = k
		return append(r.Lines(), line), err
	})
	return made, err
}

// Rotate puts a new key above the others, the prepared one if there is one: from now on it seals, in every process that has the file open. What was sealed
// before opens as before.
func Rotate(path string, now time.Time) (keyring.Key, error) {
	var made keyring.Key
	err := change(path, func(r *keyring.Ring) ([]string, error) {
		all := r.Lines()
		if next, ok := keyring.Next(r.Keys()); ok {
			made = keyring.Key{ID: next.ID, Made: now.UTC().Truncate(time.Second)} // the one before was replaced now, not when this one was prepared
			line := strings.Join(append(strings.Fields(all[len(all)-1])[:2], made.Made.Format(time.RFC3339)), " ")
			return append([]string{line}, all[:len(all)-1]...), nil
		}
		line, k, err := keyring.Make(now)
		made = k
		return append([]string{line}, all...), err
	})
	return made, err
}

// Drop removes keys from the file. The one that seals stays. What is still sealed under a dropped key is lost: the caller has looked.
func Drop(path string, ids ...string) error {
	return change(path, func(r *keyring.Ring) ([]string, error) {
		var lines []string
		for _, k := range r.Keys() {
			if k.ID == r.Keys()[0].ID || !slices.Contains(ids, k.ID) {
				lines = append(lines, r.Line(k.ID))
			}
		}
		return lines, nil
	})
}

// change replaces the file, one process after another.
func change(path string, lines func(*keyring.Ring) ([]string, error)) error {
	return keyfile.Replace(path, func(data []byte) ([]byte, error) { //nolint:wrapcheck // says which file
		r, err := keyring.Parse(data)
		if err != nil {
			return nil, err
		}
		list, err := lines(r)
		return []byte(strings.Join(list, "\n") + "\n"), err
	})
}
