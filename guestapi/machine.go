package guestapi

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// CmdMachine asks what the guest is made of; it came after the first release.
const CmdMachine Command = "machine" // → MachineInfo

// MachineInfo is what the guest has, and how its agent fares.
type MachineInfo struct {
	MemoryKiB    int64       `json:"memory_kib"` // that the guest may use
	CPUs         int         `json:"cpus"`       // likewise, rounded up
	AgentVersion string      `json:"agent_version"`
	Agent        ProcessInfo `json:"agent"`
}

// ProcessInfo are figures of a process, as the kernel gives them; memory is in KiB.
type ProcessInfo struct {
	Threads int   `json:"threads"`
	FDSize  int   `json:"fd_size"` // room for descriptors
	VMSize  int64 `json:"vm_size"`
	VMPeak  int64 `json:"vm_peak"`
	VMRSS   int64 `json:"vm_rss"`
	VMHWM   int64 `json:"vm_hwm"`
}

// Machine asks the guest what it is made of.
func (c *Client) Machine(ctx context.Context, instance string) (MachineInfo, error) {
	var m MachineInfo
	if err := c.short(ctx, instance, CmdMachine, nil, &m); err != nil {
		return MachineInfo{}, err
	}
	p := m.Agent
	if !name(m.AgentVersion) || min(m.MemoryKiB, p.VMSize, p.VMPeak, p.VMRSS, p.VMHWM, int64(min(m.CPUs, p.Threads, p.FDSize))) < 0 {
		return MachineInfo{}, trove.Errorf(trove.KindInternal, "The guest reported a machine that cannot be.")
	}
	return m, nil
}
