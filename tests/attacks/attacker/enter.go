package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How the attacker gets into a sandbox. There is no door: runc cannot run a second program in one, because its network namespace belongs to the
// host's user namespace. So the host's root enters the namespaces and control groups of the sandbox's first process, takes that process's system call filter,
// capabilities and resource limits, gives up everything else and starts the attacker. A test compares the result with the first process.

const (
	filterVariable = "ATTACK_FILTER"
	capsVariable   = "ATTACK_CAPS"
)

// enter is run by the host's root: it becomes nsenter, which runs inside.
func enter(pid int, name string) error {
	if err := joinGroups(pid); err != nil {
		return err
	}
	for _, r := range []int{unix.RLIMIT_CORE, unix.RLIMIT_NOFILE} {
		var limit unix.Rlimit
		if err := unix.Prlimit(pid, r, nil, &limit); err != nil {
			return err
		}
		if err := unix.Setrlimit(r, &limit); err != nil {
			return err
		}
	}
	filters, err := filtersOf(pid)
	if err != nil {
		return err
	}
	caps, err := statusField("/proc/"+strconv.Itoa(pid)+"/status", "CapBnd")
	if err != nil {
		return err
	}
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	env := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", filterVariable + "=" + strings.Join(filters, ","), capsVariable + "=" + caps,
	}
	return unix.Exec(path, []string{path, "--target", strconv.Itoa(pid), "--all", "--", self, insideCommand, name}, env)
}

// joinGroups moves this process into the control groups of another one.
func joinGroups(pid int) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return err
	}
	joined := 0
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		hierarchies := strings.Split(strings.TrimPrefix(parts[1], "name="), ",")
		if parts[1] == "" {
			hierarchies = []string{"", "unified"}
		}
		for _, h := range hierarchies {
			err := os.WriteFile(filepath.Join("/sys/fs/cgroup", h, parts[2], "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
			if err == nil {
				joined++
			}
		}
	}
	if joined == 0 {
		return errors.New("no control group could be joined")
	}
	return nil
}

// filtersOf reads the system call filters of a process from the kernel.
func filtersOf(pid int) ([]string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer func() { _ = unix.PtraceDetach(pid) }()
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, fmt.Errorf("interrupt: %w", err)
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	var filters []string
	for n := uintptr(0); ; n++ {
		length, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), n, 0, 0, 0)
		if errno == unix.ENOENT {
			break
		}
		if errno != 0 {
			return nil, fmt.Errorf("length of filter %d: %w", n, errno)
		}
		program := make([]unix.SockFilter, length)
		_, _, errno = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), n, uintptr(unsafe.Pointer(&program[0])), 0, 0)
		if errno != 0 {
			return nil, fmt.Errorf("read filter %d: %w", n, errno)
		}
		raw := unsafe.Slice((*byte)(unsafe.Pointer(&program[0])), len(program)*int(unsafe.Sizeof(program[0])))
		filters = append(filters, base64.StdEncoding.EncodeToString(raw))
	}
	if len(filters) == 0 {
		return nil, errors.New("the process has no system call filter")
	}
	return filters, nil
}

// inside gives up what the host's root has and becomes the attacker. Everything is set for this thread, the only one that is left after the exec.
func inside(name string) error {
	runtime.LockOSThread()
	keep, err := strconv.ParseUint(os.Getenv(capsVariable), 16, 64)
	if err != nil {
		return err
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)}, {Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set the capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	for text := range strings.SplitSeq(os.Getenv(filterVariable), ",") {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		program := unsafe.Slice((*unix.SockFilter)(unsafe.Pointer(&raw[0])), len(raw)/int(unsafe.Sizeof(unix.SockFilter{})))
		f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&f)), 0, 0); err != nil {
			return fmt.Errorf("take the system call filter: %w", err)
		}
		runtime.KeepAlive(program)
	}
	return unix.Exec(self, []string{"attacker", name}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

// statusField reads a line of /proc/PID/status.
func statusField(path, name string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " "), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", path, name)
}

var _ = register(map[string]func(*attacker) error{"same-as-agent": sameAsAgent})

// sameAsAgent compares this process with the sandbox's first one, in all that limits it.
func sameAsAgent(a *attacker) error {
	for _, field := range []string{
		"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
	} {
		mine, err := statusField("/proc/self/status", field)
		if err != nil {
			return err
		}
		first, err := statusField("/proc/1/status", field)
		if err != nil {
			return err
		}
		a.note(field+" is that of the first process", true, mine == first, mine+", first process "+first)
		a.fact(field, mine)
	}
	for _, file := range []string{"uid_map", "gid_map", "setgroups", "cgroup", "mountinfo"} {
		mine, err := os.ReadFile("/proc/self/" + file)
		if err != nil {
			return err
		}
		first, err := os.ReadFile("/proc/1/" + file)
		if err != nil {
			return err
		}
		a.note(file+" is that of the first process", true, string(mine) == string(first), "")
		a.fact(file, string(mine))
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		mine, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return err
		}
		first, err := os.Readlink("/proc/1/ns/" + ns)
		a.note("namespace "+ns+" is that of the first process", true, err == nil && mine == first, mine)
	}
	for _, r := range []int{unix.RLIMIT_CORE, unix.RLIMIT_NOFILE} {
		var mine, first unix.Rlimit
		if err := errors.Join(unix.Prlimit(0, r, nil, &mine), unix.Prlimit(1, r, nil, &first)); err != nil {
			return err
		}
		a.note(fmt.Sprintf("limit %d is that of the first process", r), true, mine == first, fmt.Sprint(mine, first))
	}
	return nil
}

// fdsOf lists what a process has open.
func fdsOf(pid string) ([]string, error) {
	entries, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/" + pid + "/fd/" + e.Name()); err == nil {
			all = append(all, target)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
