// Command agent is what the tests run in a sandbox: it says what it can see and do, then waits to be ended.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// Facts is what the agent reports of itself.
type Facts struct {
	PID      int
	UID      int
	Hostname string
	Status   map[string]string
	UIDMap   string
	Cgroup   string
	Mounts   []string
	Boot     string
	Owners   map[string]int
	Tries    map[string]string // what was tried and what came of it: "" is success
	Boots    int
}

func main() {
	fmt.Println("agent starts")
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	f := Facts{PID: os.Getpid(), UID: os.Getuid(), Status: map[string]string{}, Owners: map[string]int{}}
	f.Hostname, _ = os.Hostname()
	f.UIDMap = strings.Join(strings.Fields(read("/proc/self/uid_map")), " ")
	f.Cgroup = read("/proc/self/cgroup")
	f.Boot = read("/config/boot.json")
	for line := range strings.Lines(read("/proc/self/status")) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			f.Status[k] = strings.TrimSpace(v)
		}
	}
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		f.Mounts = append(f.Mounts, strings.Fields(line)[4])
	}
	f.Tries = tries()
	for _, path := range []string{"/", "/data", "/agent", "/config/boot.json", "/data/engine"} {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err == nil {
			f.Owners[path] = int(st.Uid)
		}
	}
	boots := len(read("/data/boots")) + 1
	write("/data/boots", strings.Repeat("x", boots))
	f.Boots = boots
	data, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	write("/data/facts.json", string(data))
	fmt.Println("agent is up")
	if strings.Contains(f.Boot, `"flood":true`) {
		go flood("/data/flood")
	}
	<-end
	write("/data/ended", "asked")
}

// flood writes to the disk, past the page cache, as fast as it can.
func flood(path string) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|syscall.O_DIRECT, 0o600)
	if err != nil {
		fmt.Println("flood:", err)
		return
	}
	block, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE) // aligned
	for n := int64(0); err == nil; n = (n + 1) % 64 {
		_, err = file.WriteAt(block, n<<20)
	}
	fmt.Println("flood:", err)
}

func tries() map[string]string {
	all := map[string]func() error{
		"mount":          func() error { return syscall.Mount("none", "/tmp", "tmpfs", 0, "") },
		"remount":        func() error { return syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND, "") },
		"unshare":        func() error { return syscall.Unshare(syscall.CLONE_NEWUSER) },
		"write root":     func() error { return os.WriteFile("/intruder", nil, 0o600) },
		"write agent":    func() error { return os.WriteFile("/agent/trove-guestagent", nil, 0o600) },
		"write config":   func() error { return os.WriteFile("/config/boot.json", nil, 0o600) },
		"write sysctl":   func() error { return os.WriteFile("/proc/sys/kernel/hostname", []byte("x"), 0o600) },
		"mknod":          func() error { return syscall.Mknod("/run/disk", syscall.S_IFBLK|0o600, 7<<8) },
		"host file":      func() error { _, err := os.ReadFile("/etc/shadow"); return err },
		"host processes": func() error { return hostProcesses() },
		"kernel log":     func() error { _, err := os.ReadFile("/proc/kmsg"); return err },
		"chown":          func() error { return chown() },
		"become engine":  func() error { return syscall.Setgroups(nil) },
		"exec from run":  func() error { return execFromRun() },
	}
	results := map[string]string{}
	for name, try := range all {
		results[name] = ""
		if err := try(); err != nil {
			results[name] = err.Error()
		}
	}
	return results
}

// hostProcesses fails if there is nobody but this process.
func hostProcesses() error {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	if len(dirs) <= 1 {
		return fmt.Errorf("none but this one")
	}
	return nil
}

func chown() error {
	write("/data/engine", "x")
	return os.Chown("/data/engine", 999, 999)
}

func execFromRun() error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile("/run/copy", self, 0o700); err != nil {
		return err
	}
	defer os.Remove("/run/copy")
	return syscall.Access("/run/copy", 1)
}

func read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}

func write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println("write:", err)
	}
}
