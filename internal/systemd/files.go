package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// Write writes the units below root ("" is this machine) and returns the names of those that changed; none if all was as it should be. A file that
// somebody else wrote is a Conflict that names it, and nothing is written.
func Write(root string, units []Unit) (changed []string, err error) {
	for _, u := range units {
		if _, err := ours(root, u.Name); err != nil {
			return nil, err
		}
	}
	for _, u := range units {
		file := path(root, u.Name)
		if old, err := os.ReadFile(file); err == nil && string(old) == u.Text {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // as systemd's own
			return changed, fmt.Errorf("make the directory of the units: %w", err)
		}
		if err := atomicfile.Write(file, []byte(u.Text), 0o644); err != nil {
			return changed, err
		}
		changed = append(changed, u.Name)
	}
	return changed, nil
}

// Installed returns the names of the units below root that this package wrote.
func Installed(root string) ([]string, error) {
	var all []string
	for _, name := range Names {
		is, err := ours(root, name)
		if trove.KindOf(err) == trove.KindConflict {
			continue
		}
		if err != nil {
			return nil, err
		}
		if is {
			all = append(all, name)
		}
	}
	return all, nil
}

// Remove removes units that this package wrote; one that is gone is fine.
func Remove(root string, names []string) error {
	for _, name := range names {
		if is, err := ours(root, name); err != nil {
			return err
		} else if !is {
			continue
		}
		if err := os.Remove(path(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the unit %s: %w", name, err)
		}
	}
	return nil
}

// ours reports whether a unit is there and of this package; a Conflict if it is another's.
func ours(root, name string) (bool, error) {
	file := path(root, name)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the unit %s: %w", name, err)
	}
	if !strings.HasPrefix(string(data), Marker) {
		return false, trove.Errorf(trove.KindConflict, "%s was not written by this program. Move it away, then install again.", file)
	}
	return true, nil
}
