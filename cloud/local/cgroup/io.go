package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// throttles are the files of version 1, one a direction and measure. Writing 0 takes a limit away.
var throttles = []struct {
	file string
	of   func(IO) int64
}{
	{"blkio.throttle.read_iops_device", func(l IO) int64 { return l.IOPS }},
	{"blkio.throttle.write_iops_device", func(l IO) int64 { return l.IOPS }},
	{"blkio.throttle.read_bps_device", func(l IO) int64 { return l.Bandwidth }},
	{"blkio.throttle.write_bps_device", func(l IO) int64 { return l.Bandwidth }},
}

// LimitsIO reports whether the kernel can hold groups to limits on block devices. Without, such limits are left out: nothing else depends on them.
func (t *Tree) LimitsIO(group string) bool {
	file := filepath.Join(t.root, "blkio", group, throttles[0].file)
	if t.unified {
		file = filepath.Join(t.root, group, "io.max")
	}
	_, err := os.Stat(file)
	return err == nil
}

// ioWrites are the writes that put the limits on the device into force.
func (t *Tree) ioWrites(group string, l IO) []write {
	if l.Device == "" {
		return nil
	}
	if t.unified {
		iops, bps := orMax(l.IOPS), orMax(l.Bandwidth)
		text := fmt.Sprintf("%s rbps=%s wbps=%s riops=%s wiops=%s", l.Device, bps, bps, iops, iops)
		return []write{{filepath.Join(t.root, group, "io.max"), text, true}}
	}
	all := make([]write, 0, len(throttles))
	for _, f := range throttles {
		all = append(all, write{filepath.Join(t.root, "blkio", group, f.file), l.Device + " " + strconv.FormatInt(f.of(l), 10), true})
	}
	return all
}

func orMax(n int64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// readIO reads the limits on the device. When reads and writes differ, somebody else has set them: the result is then none that Set could have made.
func (t *Tree) readIO(group, device string) (IO, error) {
	if device == "" {
		return IO{}, nil
	}
	values, err := t.readThrottles(group, device)
	if err != nil {
		return IO{}, err
	}
	l := IO{Device: device, IOPS: values[0], Bandwidth: values[2]}
	if values[0] != values[1] {
		l.IOPS = -1
	}
	if values[2] != values[3] {
		l.Bandwidth = -1
	}
	return l, nil
}

// readThrottles returns the limits in the order of throttles.
func (t *Tree) readThrottles(group, device string) (values [4]int64, err error) {
	if t.unified {
		fields, err := deviceLine(filepath.Join(t.root, group, "io.max"), device)
		for _, f := range fields {
			key, text, _ := strings.Cut(f, "=")
			for n, name := range []string{"riops", "wiops", "rbps", "wbps"} {
				if key == name && text != "max" {
					if values[n], err = strconv.ParseInt(text, 10, 64); err != nil {
						return values, err
					}
				}
			}
		}
		return values, err
	}
	for n, f := range throttles {
		fields, err := deviceLine(filepath.Join(t.root, "blkio", group, f.file), device)
		if err != nil {
			return values, err
		}
		if len(fields) > 0 {
			if values[n], err = strconv.ParseInt(fields[0], 10, 64); err != nil {
				return values, err
			}
		}
	}
	return values, nil
}

// deviceLine returns what a file says of a device, nothing if it does not name it or is not there.
func deviceLine(path, device string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == device {
			return fields[1:], nil
		}
	}
	return nil, nil
}

// Holds reports whether a process is in the group, in the hierarchies of all its limits.
func (t *Tree) Holds(group string, pid int) (bool, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false, err
	}
	need := map[string]bool{"memory": true, "cpu": true, "pids": true}
	if t.unified {
		need = map[string]bool{"": true}
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 || parts[2] != group {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			delete(need, c)
		}
	}
	return len(need) == 0, nil
}

// Gather makes the group where it is missing, in every hierarchy that has its parent, and moves the processes into it. Limits have to be set afterwards. A process
// that has ended meanwhile is fine.
func (t *Tree) Gather(group string, pids []int) error {
	parents, err := t.dirs(filepath.Dir(group))
	if err != nil {
		return err
	}
	for _, parent := range parents {
		dir := filepath.Join(parent, filepath.Base(group))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) { //nolint:gosec // as the runtime makes it
			return fmt.Errorf("make the control group %s: %w", group, err)
		}
		if err := copyCPUs(parent, dir); err != nil {
			return fmt.Errorf("make the control group %s: %w", group, err)
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %d into the control group %s: %w", pid, group, err)
			}
		}
	}
	return nil
}

// copyCPUs gives a new group of version 1's cpuset the cores and memory nodes of its parent: it has none by itself, and takes no process then.
func copyCPUs(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		now, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.TrimSpace(string(now)) != "" {
			continue // another hierarchy, or it has some
		}
		if data, err := os.ReadFile(filepath.Join(parent, name)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
