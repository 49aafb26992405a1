package guestagent

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/guestapi"
)

// machine answers CmdMachine. It asks the kernel and not the engine.
func machine(_ context.Context, a *Agent, _ guestapi.Request) (any, error) {
	memory, err := figures("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	own, err := figures("/proc/self/status")
	if err != nil {
		return nil, err
	}
	m := guestapi.MachineInfo{
		MemoryKiB: memory["MemTotal"], CPUs: runtime.NumCPU(), AgentVersion: a.cfg.Version,
		Agent: guestapi.ProcessInfo{
			Threads: int(own["Threads"]), FDSize: int(own["FDSize"]), VMSize: own["VmSize"], VMPeak: own["VmPeak"], VMRSS: own["VmRSS"], VMHWM: own["VmHWM"],
		},
	}
	limit("/sys/fs/cgroup", &m)
	return m, nil
}

// figures reads a file of the kernel with lines such as "MemTotal:  16384 kB".
func figures(path string) (map[string]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel: %w", err)
	}
	all := map[string]int64{}
	for line := range bytes.Lines(data) {
		key, rest, _ := strings.Cut(string(line), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				all[key] = n
			}
		}
	}
	return all, nil
}

// limit lowers the figures to what the guest's control group allows. A sandbox sees the host's memory and cores in /proc; a virtual machine has no limits
// at its root.
func limit(group string, m *guestapi.MachineInfo) {
	if data, err := os.ReadFile(filepath.Join(group, "memory.max")); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			m.MemoryKiB = min(m.MemoryKiB, n>>10)
		}
	}
	if data, err := os.ReadFile(filepath.Join(group, "cpu.max")); err == nil {
		words := strings.Fields(string(data))
		if len(words) != 2 {
			return
		}
		quota, err1 := strconv.ParseFloat(words[0], 64)
		period, err2 := strconv.ParseFloat(words[1], 64)
		if err1 == nil && err2 == nil && quota > 0 && period > 0 {
			m.CPUs = min(m.CPUs, int(math.Ceil(quota/period)))
		}
	}
}
