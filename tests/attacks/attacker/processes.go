package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// privileges tries to have more rights than it was born with.
func privileges(a *attacker) error {
	a.own("become the engine's user in a child", asUser(999))
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0), Inheritable: ^uint32(0)}, {Effective: 0x1ff, Permitted: 0x1ff, Inheritable: 0x1ff}}
	a.try("take all capabilities", unix.Capset(&header, &all[0]))
	for _, c := range []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_PTRACE, unix.CAP_MKNOD} {
		a.try(fmt.Sprintf("raise the ambient capability %d", c), unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0))
	}
	a.try("allow new privileges", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0))
	a.try("give up the system call filter", unix.Prctl(unix.PR_SET_SECCOMP, 0, 0, 0, 0))
	// A program that belongs to root and has the set-user-id bit, started by the engine's user.
	status, err := statusField("/proc/self/status", "CapBnd")
	if err != nil {
		return err
	}
	a.note("have more capabilities to gain", false, status != "00000000000000eb", status)
	for _, m := range []string{"/", "/data", "/agent", "/tmp"} {
		var st unix.Statfs_t
		if err := unix.Statfs(m, &st); err != nil {
			return err
		}
		a.note("use set-user-id programs of "+m, false, st.Flags&unix.ST_NOSUID == 0, fmt.Sprintf("flags %x", st.Flags))
	}
	a.try("give a file to a user outside the range", os.Chown(touch("/data/attack-owner"), 70000, 70000))
	_ = os.Remove("/data/attack-owner")
	a.try("put capabilities on a file", unix.Setxattr(touch("/tmp/attack-caps"), "security.capability", []byte("\x01\x00\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 0))
	a.try("raise the limit of open files", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}))
	a.try("lower the own niceness", unix.Setpriority(unix.PRIO_PROCESS, 0, -20))
	a.try("be scheduled in real time", realTime())
	return nil
}

func touch(path string) string {
	_ = os.WriteFile(path, nil, 0o600)
	return path
}

func asUser(uid int) error {
	process, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: credential(uid)})
	if err != nil {
		return err
	}
	_, err = process.Wait()
	return err
}

func realTime() error {
	param := int32(99)
	_, _, e := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&param)))
	return errno(0, 0, e)
}

// descriptors looks for what the host may have left open in the sandbox's processes.
func descriptors(a *attacker) error {
	all, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return err
	}
	seen := 0
	for _, dir := range all {
		fds, err := fdsOf(strings.TrimSuffix(strings.TrimPrefix(dir, "/proc/"), "/fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			seen++
			if !ours(fd) {
				a.note("find something of the host open", false, true, dir+" "+fd)
			}
		}
	}
	a.note("look at open files", true, seen > 5, fmt.Sprint(seen))
	a.note("find something of the host open", false, false, "")
	// The console is the one file of the host that the sandbox has: it may be written and lengthened, but leads nowhere.
	console := "/proc/1/fd/1"
	fd, err := unix.Open(console, unix.O_RDONLY, 0)
	a.note("read what was written to the console", true, true, text(err))
	closeIf(fd, err)
	for _, up := range []string{"/proc/1/fd/1/..", "/proc/1/fd/1/../boot.json", "/proc/1/cwd/../../..", "/proc/1/exe/.."} {
		if entries, err := os.ReadDir(up); err == nil && !sameAsRoot(entries) {
			a.note("leave by "+up, false, true, fmt.Sprint(len(entries)))
		}
	}
	return nil
}

func sameAsRoot(entries []os.DirEntry) bool {
	mine, err := os.ReadDir("/")
	if err != nil || len(mine) != len(entries) {
		return false
	}
	return true
}

// ours reports whether an open file is one that a process of the sandbox can have opened by itself, or its console.
func ours(target string) bool {
	for _, prefix := range []string{
		"/dev/null", "/dev/random", "/dev/urandom", "socket:[", "pipe:[", "anon_inode:", "/data/", "/run/", "/tmp/", "/proc/", "/memfd:", "/config/boot.json", "/usr/", "/[aio]",
	} {
		if strings.HasPrefix(target, prefix) {
			return !strings.HasPrefix(target, "/run/trove-") || strings.HasSuffix(target, "/console.log")
		}
	}
	return target == "/" || strings.HasSuffix(target, "/console.log")
}

// signals tries to end processes outside.
func signals(a *attacker) error {
	a.own("signal the own process", unix.Kill(os.Getpid(), 0))
	hit := 0
	for pid := 2; pid < 100000; pid++ {
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); err == nil {
			continue // one of ours
		}
		if unix.Kill(pid, 0) == nil {
			if _, err := os.Stat(fmt.Sprint("/proc/", pid, "/status")); err != nil && !isThread(pid) {
				hit++
			}
		}
	}
	a.note("signal a process that is not to be seen", false, hit > 0, fmt.Sprint(hit))
	return nil
}

// isThread reports whether the number is that of a thread: those are not listed but can be signalled.
func isThread(tid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprint("/proc/[0-9]*/task/", tid))
	return len(tasks) > 0
}

// sharedMemory looks for the host's memory segments and queues.
func sharedMemory(a *attacker) error {
	own, _, e := unix.RawSyscall(unix.SYS_SHMGET, 0x7a7a, 4096, 0o1600)
	a.own("make a memory segment", errno(own, 0, e))
	if e == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SHMCTL, own, 0, 0)
	}
	var key uintptr
	if _, err := fmt.Sscan(a.in["segment"], &key); err != nil {
		return err
	}
	_, _, e = unix.RawSyscall(unix.SYS_SHMGET, key, 0, 0)
	a.try("open the host's memory segment", errno(0, 0, e))
	a.try("open the host's shared file", readFirst("/dev/shm/"+a.in["file"]))
	a.try("open the neighbour's volume", readFirst(a.in["image"]))
	a.try("open the service's keys", readFirst(a.in["keys"]))
	a.try("open the neighbour's boot data", readFirst(a.in["boot"]))
	return nil
}
