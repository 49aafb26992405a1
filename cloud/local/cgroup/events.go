package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Events are how often a group ran into its limits since it was made.
type Events struct {
	Killed  uint64 // processes killed because the group's memory was used up
	Refused uint64 // new processes and threads refused because there were too many
}

// Events returns how often the group ran into its limits. A group that does not exist has none.
func (t *Tree) Events(group string) (Events, error) {
	memory, pids := filepath.Join(t.root, "memory", group, "memory.oom_control"), filepath.Join(t.root, "pids", group, "pids.events")
	if t.unified {
		memory, pids = filepath.Join(t.root, group, "memory.events"), filepath.Join(t.root, group, "pids.events")
	}
	var e Events
	var err error
	if e.Killed, err = readField(memory, "oom_kill"); err == nil {
		e.Refused, err = readField(pids, "max")
	}
	if err != nil {
		return Events{}, fmt.Errorf("read the events of %s: %w", group, err)
	}
	return e, nil
}

// readField reads the number behind a name in a file of names and numbers; 0 if there is no such file or name.
func readField(path, name string) (uint64, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, nil
}
