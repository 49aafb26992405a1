package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]func(*attacker) error{
	"proc": readProc, "sys": reachSys, "mounts": mountThings, "devices": devices, "namespaces": namespaces, "kernel": kernelInterfaces,
	"sockets": sockets, "privileges": privileges, "descriptors": descriptors, "signals": signals, "shared": sharedMemory, "host": changeHost,
})

// errno makes an error of a raw system call; nil if it succeeded.
func errno(_, _ uintptr, e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

func readFirst(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.Read(make([]byte, 4096))
	if n == 0 {
		return errors.Join(errors.New("nothing to read"), err)
	}
	return nil
}

func writeFile(path, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(data)
	return err
}

// readProc looks for the host in /proc, and for switches.
func readProc(a *attacker) error {
	a.own("read /proc/self/status", readFirst("/proc/self/status"))
	for _, path := range []string{
		"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/kmsg", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/kpagecount",
		"/proc/kpageflags", "/proc/kpagecgroup", "/proc/interrupts", "/proc/kallsyms", "/proc/config.gz", "/proc/latency_stats", "/proc/pagetypeinfo",
		"/proc/1/mem", "/proc/2/environ", "/proc/2/maps",
	} {
		a.try("read "+path, readFirst(path))
	}
	for path, data := range map[string]string{
		"/proc/sysrq-trigger": "h", "/proc/sys/kernel/core_pattern": "|/data/x", "/proc/sys/kernel/hostname": "attack", "/proc/sys/kernel/modprobe": "/data/x",
		"/proc/sys/vm/drop_caches": "1", "/proc/sys/vm/overcommit_memory": "1", "/proc/sys/kernel/panic": "1", "/proc/sys/net/ipv4/ip_forward": "1",
		"/proc/sys/net/ipv6/conf/all/disable_ipv6": "0", "/proc/sys/net/ipv6/conf/mgmt0/disable_ipv6": "0", "/proc/sys/net/ipv4/conf/mgmt0/arp_ignore": "8",
		"/proc/sys/kernel/ns_last_pid": "1", "/proc/irq/default_smp_affinity": "1", "/proc/self/oom_score_adj": "-1000", "/proc/self/uid_map": "0 0 1",
		"/proc/1/attr/current": "unconfined", "/proc/bus/pci/00/00.0": "x", "/proc/mtrr": "disable=0", "/proc/self/timens_offsets": "monotonic 1 0",
	} {
		a.try("write "+path, writeFile(path, data))
	}
	// Every process that is to be seen belongs to this sandbox: it has the same user namespace.
	mine, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return err
	}
	foreign, count := []string{}, 0
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, p := range all {
		count++
		if ns, err := os.Readlink(p + "/ns/user"); err == nil && ns != mine {
			foreign = append(foreign, p)
		}
	}
	a.note("see the own processes", true, count > 2, fmt.Sprint(count))
	a.note("see a process of others", false, len(foreign) > 0, strings.Join(foreign, " "))
	for _, p := range all {
		// Through a process's root and working directory.
		for _, link := range []string{"/root/../../../../etc/hostname.of.the.host", "/cwd/../../../../../work"} {
			if _, err := os.Stat(p + link); err == nil {
				a.try("leave by "+p+link, nil)
			}
		}
	}
	return nil
}

// reachSys looks for the kernel's objects and the control groups.
func reachSys(a *attacker) error {
	entries, err := os.ReadDir("/sys")
	a.note("list /sys", false, err == nil && len(entries) > 0, fmt.Sprint(len(entries), " entries, ", err))
	a.own("read the own control group's name", readFirst("/proc/self/cgroup"))
	if err := os.MkdirAll("/tmp/m", 0o700); err != nil {
		return err
	}
	for _, m := range [][2]string{{"sysfs", ""}, {"cgroup", "memory"}, {"cgroup", "rdma"}, {"cgroup2", ""}, {"proc", ""}, {"debugfs", ""}, {"tracefs", ""}, {"bpf", ""}, {"securityfs", ""}} {
		a.try("mount "+m[0]+" "+m[1], unix.Mount("none", "/tmp/m", m[0], 0, m[1]))
	}
	a.try("write a release agent", writeFile("/tmp/m/release_agent", "/data/x"))
	return nil
}

// mountThings tries to change what is mounted where.
func mountThings(a *attacker) error {
	for _, dir := range []string{"/tmp/m", "/tmp/n"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	a.own("write to the volume", os.WriteFile("/data/attack", []byte("x"), 0o600))
	_ = os.Remove("/data/attack")
	a.try("mount a tmpfs", unix.Mount("none", "/tmp/m", "tmpfs", 0, ""))
	a.try("bind the root somewhere", unix.Mount("/", "/tmp/m", "", unix.MS_BIND|unix.MS_REC, ""))
	a.try("bind over the boot data", unix.Mount("/tmp", "/config", "", unix.MS_BIND, ""))
	for _, dir := range []string{"/", "/agent", "/config", "/proc/sys", "/data"} {
		a.try("mount "+dir+" anew, for writing and running", unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	}
	for _, dir := range []string{"/config", "/proc/kcore", "/proc/sys", "/dev/shm", "/agent"} {
		a.try("unmount "+dir, unix.Unmount(dir, unix.MNT_DETACH))
	}
	a.try("change the root", unix.PivotRoot("/tmp/m", "/tmp/m"))
	a.try("chroot", unix.Chroot("/tmp/m"))
	fd, err := unix.Fsopen("tmpfs", 0)
	a.try("open a file system", err)
	closeIf(fd, err)
	fd, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	a.try("clone the tree", err)
	closeIf(fd, err)
	a.try("move a mount", unix.MoveMount(unix.AT_FDCWD, "/tmp/m", unix.AT_FDCWD, "/tmp/n", 0))
	a.try("change a mount's attributes", unix.MountSetattr(unix.AT_FDCWD, "/agent", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	for _, path := range []string{"/attack", "/agent/trove-guestagent", "/agent/attack", "/config/boot.json", "/etc/passwd", "/usr/sbin/mariadbd"} {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		a.try("write "+path, err)
		if err == nil {
			f.Close()
		}
	}
	a.try("replace the agent", os.Rename("/agent/trove-guestagent", "/agent/old"))
	a.try("replace the directory of the agent", os.Rename("/agent", "/old"))
	for _, dir := range []string{"/data", "/tmp", "/run", "/dev/shm", "/dev"} {
		a.try("run a program from "+dir, runFrom(dir))
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/data", 0)
	a.own("name a file by its handle", err)
	if err == nil {
		fd, err := unix.Open("/data", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		opened, err := unix.OpenByHandleAt(fd, handle, unix.O_RDONLY)
		a.try("open a file by its handle", err)
		closeIf(opened, err)
		closeIf(fd, nil)
	}
	return nil
}

func closeIf(fd int, err error) {
	if err == nil {
		_ = unix.Close(fd)
	}
}

// runFrom copies a program into a directory and starts it.
func runFrom(dir string) error {
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		return err
	}
	path := dir + "/attack-program"
	defer func() { _ = os.Remove(path) }()
	if err := os.WriteFile(path, data, 0o700); err != nil {
		return err
	}
	process, err := os.StartProcess(path, []string{path}, &os.ProcAttr{})
	if err != nil {
		return err
	}
	_, err = process.Wait()
	return err
}

// devices tries to have other devices than the standard ones.
func devices(a *attacker) error {
	a.own("write to /dev/null", writeFile("/dev/null", "x"))
	for _, d := range []struct {
		name         string
		mode         uint32
		major, minor uint32
	}{
		{"mem", unix.S_IFCHR, 1, 1},
		{"kmsg", unix.S_IFCHR, 1, 11},
		{"loop0", unix.S_IFBLK, 7, 0},
		{"loop1", unix.S_IFBLK, 7, 1},
		{"sda", unix.S_IFBLK, 8, 0},
		{"vda", unix.S_IFBLK, 254, 0},
		{"loop-control", unix.S_IFCHR, 10, 237},
		{"fuse", unix.S_IFCHR, 10, 229},
		{"tun", unix.S_IFCHR, 10, 200},
		{"kvm", unix.S_IFCHR, 10, 232},
		{"null", unix.S_IFCHR, 1, 3},
		{"vhost-vsock", unix.S_IFCHR, 10, 241},
	} {
		for _, dir := range []string{"/dev", "/data", "/tmp"} {
			path := dir + "/attack-" + d.name
			err := unix.Mknod(path, d.mode|0o666, int(unix.Mkdev(d.major, d.minor)))
			a.try("make "+path, err)
			if err == nil {
				a.try("open "+path, readFirst(path))
				_ = os.Remove(path)
			}
		}
	}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return err
	}
	standard := " console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
	for _, e := range entries {
		if !strings.Contains(standard, " "+e.Name()+" ") {
			a.note("find a device that is not one of the standard ones", false, true, e.Name())
		}
	}
	return nil
}

// namespaces tries to enter others and to make new ones, in which root has all capabilities.
func namespaces(a *attacker) error {
	runtime.LockOSThread()
	pid, _, e := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	a.note("ask for the own number", true, e == 0 && pid > 0, fmt.Sprint(pid))
	for name, flag := range map[string]int{
		"user": unix.CLONE_NEWUSER, "network": unix.CLONE_NEWNET, "mount": unix.CLONE_NEWNS, "process": unix.CLONE_NEWPID, "IPC": unix.CLONE_NEWIPC,
		"host name": unix.CLONE_NEWUTS, "control group": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME, "user and network": unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
	} {
		a.try("leave the "+name+" namespace", unix.Unshare(flag))
		if flag == unix.CLONE_NEWTIME {
			continue // to clone the bit means a signal
		}
		child, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(flag)|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if e == 0 && child == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		a.try("be born into another "+name+" namespace", errno(child, 0, e))
	}
	args := [11]uint64{unix.CLONE_NEWUSER, 0, 0, 0, uint64(unix.SIGCHLD)}
	child, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if e == 0 && child == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	a.try("be born into another user namespace, by clone3", errno(child, 0, e))
	for _, ns := range []string{"user", "net", "mnt", "pid", "ipc", "uts", "cgroup"} {
		f, err := os.Open("/proc/1/ns/" + ns)
		if err != nil {
			a.try("open the first process's namespace "+ns, err)
			continue
		}
		a.try("enter the namespace "+ns, unix.Setns(int(f.Fd()), 0))
		f.Close()
	}
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	a.try("enter all namespaces of the first process", unix.Setns(fd, unix.CLONE_NEWNET|unix.CLONE_NEWNS))
	closeIf(fd, nil)
	return nil
}

// kernelInterfaces tries what has been a way into the kernel before.
func kernelInterfaces(a *attacker) error {
	a.own("ask for the time", errno(unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)))
	zero := make([]byte, 256)
	p := uintptr(unsafe.Pointer(&zero[0]))
	const (
		ioUringSetup, ioUringEnter, ioUringRegister = 425, 426, 427
		lookupDcookie                               = 212
	)
	for _, c := range []struct {
		name string
		nr   uintptr
		args [5]uintptr
	}{
		{"bpf", unix.SYS_BPF, [5]uintptr{0, p, 48}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [5]uintptr{p, 0, ^uintptr(0), ^uintptr(0)}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [5]uintptr{1}},
		{"io_uring_setup", ioUringSetup, [5]uintptr{8, p}},
		{"io_uring_enter", ioUringEnter, [5]uintptr{}},
		{"io_uring_register", ioUringRegister, [5]uintptr{}},
		{"keyctl", unix.SYS_KEYCTL, [5]uintptr{0, ^uintptr(2), 0}},
		{"add_key", unix.SYS_ADD_KEY, [5]uintptr{p, p, p, 1, ^uintptr(2)}},
		{"request_key", unix.SYS_REQUEST_KEY, [5]uintptr{p, p, p, 0}},
		{"ptrace", unix.SYS_PTRACE, [5]uintptr{unix.PTRACE_SEIZE, 1}},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [5]uintptr{1, p, 1, p, 1}},
		{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, [5]uintptr{1, p, 1, p, 1}},
		{"kcmp", unix.SYS_KCMP, [5]uintptr{1, 1}},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [5]uintptr{0, 0}},
		{"init_module", unix.SYS_INIT_MODULE, [5]uintptr{p, 1, p}},
		{"finit_module", unix.SYS_FINIT_MODULE, [5]uintptr{0, p}},
		{"delete_module", unix.SYS_DELETE_MODULE, [5]uintptr{p}},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [5]uintptr{}},
		{"kexec_file_load", unix.SYS_KEXEC_FILE_LOAD, [5]uintptr{}},
		{"syslog", unix.SYS_SYSLOG, [5]uintptr{3, p, 256}},
		{"quotactl", unix.SYS_QUOTACTL, [5]uintptr{0, p}},
		{"swapon", unix.SYS_SWAPON, [5]uintptr{p}},
		{"acct", unix.SYS_ACCT, [5]uintptr{}},
		{"iopl", unix.SYS_IOPL, [5]uintptr{3}},
		{"ioperm", unix.SYS_IOPERM, [5]uintptr{0, 1, 1}},
		{"modify_ldt", unix.SYS_MODIFY_LDT, [5]uintptr{1, p, 16}},
		{"lookup_dcookie", lookupDcookie, [5]uintptr{}},
		{"move_pages", unix.SYS_MOVE_PAGES, [5]uintptr{1}},
		{"mbind", unix.SYS_MBIND, [5]uintptr{}},
		{"fanotify_init", unix.SYS_FANOTIFY_INIT, [5]uintptr{}},
		{"vhangup", unix.SYS_VHANGUP, [5]uintptr{}},
	} {
		_, _, e := unix.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
		// Whatever the kernel says of bad arguments means that the call was let through to it.
		switch e {
		case unix.EPERM, unix.ENOSYS:
			a.try("call "+c.name, e)
		default:
			a.note("call "+c.name, false, true, fmt.Sprint("got through to the kernel: ", error(e)))
		}
	}
	runtime.KeepAlive(zero)
	return nil
}

// sockets tries families that are of no use to a database.
func sockets(a *attacker) error {
	open := func(family, kind, protocol int) error {
		fd, err := unix.Socket(family, kind, protocol)
		closeIf(fd, err)
		return err
	}
	a.own("open a TCP socket", open(unix.AF_INET, unix.SOCK_STREAM, 0))
	a.own("open a local socket", open(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	a.own("ask for the own addresses", open(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE))
	for _, s := range []struct {
		name                   string
		family, kind, protocol int
	}{
		{"packets of the wire", unix.AF_PACKET, unix.SOCK_RAW, 0x0300},
		{"packets of the wire, cooked", unix.AF_PACKET, unix.SOCK_DGRAM, 0x0300},
		{"raw IPv4", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		{"raw ICMP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		{"raw IPv6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		{"the kernel's cryptography", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"the hypervisor", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"XDP", unix.AF_XDP, unix.SOCK_RAW, 0},
		{"Bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		{"CAN", unix.AF_CAN, unix.SOCK_RAW, 1},
		{"TIPC", unix.AF_TIPC, unix.SOCK_DGRAM, 0},
		{"RDS", unix.AF_RDS, unix.SOCK_SEQPACKET, 0},
		{"SMC", unix.AF_SMC, unix.SOCK_STREAM, 0},
		{"QIPCRTR", unix.AF_QIPCRTR, unix.SOCK_DGRAM, 0},
		{"the packet filter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"the audit log", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		{"kernel events", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT},
		{"IPsec", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM},
		{"socket diagnosis", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG},
		{"generic netlink", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC},
		{"keys", 15, unix.SOCK_RAW, 2},
	} {
		a.try("open a socket for "+s.name, open(s.family, s.kind, s.protocol))
	}
	// A local socket of the host whose name is no file.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	a.try("connect to the host's abstract socket", unix.Connect(fd, &unix.SockaddrUnix{Name: a.in["abstract"]}))
	closeIf(fd, nil)
	a.try("take the address of another interface", linkChange())
	return nil
}

// linkChange asks the kernel by netlink to switch an interface off.
func linkChange() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer closeIf(fd, nil)
	message := make([]byte, 32)
	*(*unix.NlMsghdr)(unsafe.Pointer(&message[0])) = unix.NlMsghdr{Len: 32, Type: unix.RTM_NEWLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: 1}
	*(*unix.IfInfomsg)(unsafe.Pointer(&message[16])) = unix.IfInfomsg{Index: 1, Change: unix.IFF_UP}
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < 20 {
		return errors.Join(errors.New("no answer"), err)
	}
	if code := *(*int32)(unsafe.Pointer(&answer[16])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// changeHost tries to change what all share.
func changeHost(a *attacker) error {
	name, err := os.Hostname()
	a.note("read the own host name", true, err == nil, name)
	a.try("set the host name", unix.Sethostname([]byte("attack")))
	a.try("set the domain name", unix.Setdomainname([]byte("attack")))
	a.try("set the time", unix.Settimeofday(&unix.Timeval{Sec: 1}))
	a.try("set the clock", unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}))
	a.try("turn the clock", func() error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: 1, Offset: 1})
		return err
	}())
	a.try("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_ON))
	a.try("shut swap off", func() error {
		_, _, e := unix.RawSyscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(unsafe.StringData("/x\x00"))), 0, 0)
		return errno(0, 0, e)
	}())
	return nil
}
