// Package boundaries says where a walk over the crashes of operations kills the taskmanager: the boundaries of the steps of taskmanager/testdata/steps.golden, so
// that a new step is walked by itself.
package boundaries

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Steps are the steps of a kind of operation, in order.
type Steps struct {
	Kind  string
	steps []step
}

type step struct {
	name string
	undo bool // it has something to take back
}

// Read returns the steps of each kind of operation from a tree of the repository, and the kinds in order.
func Read(repository string) (map[string]Steps, []string, error) {
	data, err := os.ReadFile(filepath.Join(repository, "taskmanager", "testdata", "steps.golden"))
	if err != nil {
		return nil, nil, fmt.Errorf("read the steps of operations: %w", err)
	}
	all := map[string]Steps{}
	var kinds []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			return nil, nil, fmt.Errorf("steps.golden has the line %q", line)
		}
		s, seen := all[f[0]]
		if !seen {
			s.Kind, kinds = f[0], append(kinds, f[0])
		}
		s.steps = append(s.steps, step{name: f[2], undo: len(f) > 3})
		all[f[0]] = s
	}
	return all, kinds, nil
}

// Last is the step whose failure has all others taken back, as TROVE_CRASH_FILE names it.
func (s Steps) Last() string { return s.Kind + "/" + s.steps[len(s.steps)-1].name }

// Forwards are the boundaries of an operation that is finished. What is after the commit of one step is before the next one. Steps in waits are always released to
// wait, and have a boundary there.
func (s Steps) Forwards(waits map[string]bool) []string {
	var all []string
	for _, each := range s.steps {
		at := s.Kind + "/" + each.name
		all = append(all, at+"/before", at+"/after")
		if waits[at] {
			all = append(all, at+"/waited")
		}
	}
	return append(all, s.Last()+"/closed")
}

// Backwards are those of one whose last step fails, in the order in which they are met; none where nothing is taken back.
func (s Steps) Backwards() []string {
	var all []string
	last := ""
	for _, each := range slices.Backward(s.steps) {
		if each.undo {
			last = s.Kind + "/" + each.name
			all = append(all, last+"/undo-before", last+"/undo-after")
		}
	}
	if last != "" {
		all = append(all, last+"/undo-closed")
	}
	return all
}
