package guestagent //nolint:testpackage // of files that only the kernel writes

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/trove-dbaas/trove/guestapi"
)

func TestMachineTellsWhatTheKernelSays(t *testing.T) {
	a := &Agent{cfg: Config{Version: "1.2.3"}}
	got, err := machine(context.Background(), a, guestapi.Request{})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := got.(guestapi.MachineInfo)
	if m.AgentVersion != "1.2.3" || m.MemoryKiB < 1024 || m.CPUs < 1 || m.CPUs > runtime.NumCPU() || m.Agent.Threads < 1 || m.Agent.VMRSS < 512 || m.Agent.VMPeak < m.Agent.VMSize || m.Agent.FDSize < 1 {
		t.Errorf("%+v", m)
	}
}

// TestMachineIsNoLargerThanItsSandbox: /proc shows a sandbox the host.
func TestMachineIsNoLargerThanItsSandbox(t *testing.T) {
	for name, c := range map[string]struct {
		memory, cpu string
		want        guestapi.MachineInfo
	}{
		"limits":       {"536870912\n", "150000 100000\n", guestapi.MachineInfo{MemoryKiB: 512 << 10, CPUs: 2}},
		"none":         {"max\n", "max 100000\n", guestapi.MachineInfo{MemoryKiB: 8 << 20, CPUs: 4}},
		"larger":       {"99999999999999\n", "900000 100000\n", guestapi.MachineInfo{MemoryKiB: 8 << 20, CPUs: 4}},
		"not a number": {"lots\n", "\n", guestapi.MachineInfo{MemoryKiB: 8 << 20, CPUs: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"memory.max": c.memory, "cpu.max": c.cpu} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m := guestapi.MachineInfo{MemoryKiB: 8 << 20, CPUs: 4}
			limit(dir, &m)
			if m != c.want {
				t.Errorf("%+v, want %+v", m, c.want)
			}
		})
	}
}
