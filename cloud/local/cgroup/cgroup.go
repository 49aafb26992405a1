// Package cgroup changes limits of, lists and removes control groups, on version 1 (one hierarchy per controller, perhaps a unified one
// beside them) and version 2 alike. Groups are made by the runtime that starts a sandbox; a group is named by its path from the root of the hierarchies.
//
// A Tree keeps no state beside the paths and may be used from several goroutines.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Period is what a cpu quota is counted in, in microseconds: a quota of Period is one core.
const Period = 100_000

// Limits are what a group may use. Swap is never given beyond the memory.
type Limits struct {
	Memory int64 // bytes
	CPU    int64 // microseconds per Period
	PIDs   int64
	IO     IO
}

// IO is what a group may do to one block device; the zero value is no limit on any.
type IO struct {
	Device    string // major:minor
	IOPS      int64  // reads, and as many writes, a second; 0: no limit
	Bandwidth int64  // bytes read, and as many written, a second; 0: no limit
}

// Tree is the machine's cgroup hierarchies.
type Tree struct {
	root    string
	unified bool
}

// Open looks which version is mounted at root, which is /sys/fs/cgroup on every system. A controller that is missing is named in the error.
func Open(root string) (*Tree, error) {
	t := &Tree{root: root}
	data, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	var have []string
	switch {
	case err == nil:
		t.unified = true
		have = strings.Fields(string(data))
	case errors.Is(err, os.ErrNotExist):
		if have, err = t.hierarchies(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("read the cgroup controllers: %w", err)
	}
	for _, c := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(have, c) {
			return nil, fmt.Errorf("the %s controller is not mounted below %s", c, root)
		}
	}
	return t, nil
}

// Version returns 1 or 2.
func (t *Tree) Version() int {
	if t.unified {
		return 2
	}
	return 1
}

func (t *Tree) hierarchies() ([]string, error) {
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return nil, fmt.Errorf("list the cgroup hierarchies: %w", err)
	}
	var names []string
	for _, e := range entries {
		// "cpu" may be a link to "cpu,cpuacct".
		if info, err := os.Stat(filepath.Join(t.root, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// dirs returns the directories that make up the group, those that exist.
func (t *Tree) dirs(group string) ([]string, error) {
	if t.unified {
		dir := filepath.Join(t.root, group)
		if _, err := os.Stat(dir); err != nil {
			return nil, nil //nolint:nilerr // a group that cannot be seen is not there
		}
		return []string{dir}, nil
	}
	names, err := t.hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, n := range names {
		dir := filepath.Join(t.root, n, group)
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// Set puts the limits on a running group. It may be repeated. Memory below what the group uses now is refused by version 1 with an error
// that matches syscall.EBUSY.
func (t *Tree) Set(group string, l Limits) error {
	if t.unified {
		return t.setUnified(group, l)
	}
	memory := filepath.Join(t.root, "memory", group)
	limit := write{filepath.Join(memory, "memory.limit_in_bytes"), strconv.FormatInt(l.Memory, 10), false}
	// Kernels without swap accounting have no such file.
	both := write{filepath.Join(memory, "memory.memsw.limit_in_bytes"), strconv.FormatInt(l.Memory, 10), true}
	// Memory may never be above memory with swap, so which goes first depends on the direction.
	order := []write{limit, both}
	if now, err := readInt(limit.path); err != nil {
		return fmt.Errorf("read the memory limit of %s: %w", group, err)
	} else if l.Memory > now {
		order = []write{both, limit}
	}
	cpu := filepath.Join(t.root, "cpu", group)
	return writeAll(group, append(append(order,
		write{filepath.Join(cpu, "cpu.cfs_period_us"), strconv.Itoa(Period), false},
		write{filepath.Join(cpu, "cpu.cfs_quota_us"), strconv.FormatInt(l.CPU, 10), false},
		write{filepath.Join(t.root, "pids", group, "pids.max"), strconv.FormatInt(l.PIDs, 10), false},
	), t.ioWrites(group, l.IO)...))
}

func (t *Tree) setUnified(group string, l Limits) error {
	dir := filepath.Join(t.root, group)
	return writeAll(group, append([]write{
		{filepath.Join(dir, "memory.swap.max"), "0", true},
		{filepath.Join(dir, "memory.max"), strconv.FormatInt(l.Memory, 10), false},
		{filepath.Join(dir, "cpu.max"), fmt.Sprintf("%d %d", l.CPU, Period), false},
		{filepath.Join(dir, "pids.max"), strconv.FormatInt(l.PIDs, 10), false},
	}, t.ioWrites(group, l.IO)...))
}

// Get returns the limits that are in force; of the limits on block devices those of the device.
func (t *Tree) Get(group, device string) (Limits, error) {
	var l Limits
	memory, cpu, pids := filepath.Join(t.root, "memory", group, "memory.limit_in_bytes"),
		filepath.Join(t.root, "cpu", group, "cpu.cfs_quota_us"), filepath.Join(t.root, "pids", group, "pids.max")
	if t.unified {
		dir := filepath.Join(t.root, group)
		memory, cpu, pids = filepath.Join(dir, "memory.max"), filepath.Join(dir, "cpu.max"), filepath.Join(dir, "pids.max")
	}
	for path, into := range map[string]*int64{memory: &l.Memory, cpu: &l.CPU, pids: &l.PIDs} {
		n, err := readInt(path)
		if err != nil {
			return Limits{}, fmt.Errorf("read the limits of %s: %w", group, err)
		}
		*into = n
	}
	io, err := t.readIO(group, device)
	if err != nil {
		return Limits{}, fmt.Errorf("read the limits of %s: %w", group, err)
	}
	l.IO = io
	return l, nil
}

// Groups returns the names of the groups directly below group, each once.
func (t *Tree) Groups(group string) ([]string, error) {
	dirs, err := t.dirs(group)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list the groups of %s: %w", group, err)
		}
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// Processes returns the ids of the processes in the group, each once; none if the group does not exist.
func (t *Tree) Processes(group string) ([]int, error) {
	dirs, err := t.dirs(group)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // removed meanwhile, or a threaded group
		}
		for f := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Remove removes the group with all groups in it, in every hierarchy. It must have no processes: else the error matches syscall.EBUSY. A group
// that is gone is fine.
func (t *Tree) Remove(group string) error {
	dirs, err := t.dirs(group)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := removeTree(dir); err != nil {
			return fmt.Errorf("remove the control group %s: %w", group, err)
		}
	}
	return nil
}

// removeTree removes directories only: the files of a cgroup go with it.
func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

type write struct {
	path, value string
	optional    bool
}

func writeAll(group string, all []write) error {
	for _, w := range all {
		f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_TRUNC, 0)
		if w.optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = f.WriteString(w.value)
			f.Close()
		}
		if err != nil {
			return fmt.Errorf("limit %s: set %s to %s: %w", group, filepath.Base(w.path), w.value, err)
		}
	}
	return nil
}

// readInt reads the first number of a file; "max" is the largest there is.
func readInt(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) == 0 {
		return 0, fmt.Errorf("%s is empty", path)
	}
	if fields[0] == "max" {
		return 1<<63 - 1, nil
	}
	return strconv.ParseInt(fields[0], 10, 64)
}

// MemoryUsed returns how many bytes the group uses, caches included; 0 where there is no group.
func (t *Tree) MemoryUsed(group string) int64 {
	path := filepath.Join(t.root, "memory", group, "memory.usage_in_bytes")
	if t.unified {
		path = filepath.Join(t.root, group, "memory.current")
	}
	n, err := readInt(path)
	if err != nil {
		return 0
	}
	return n
}
