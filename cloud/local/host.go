package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
)

var _ cloud.Hosts = (*Provider)(nil)

// Hosts is cloud.Hosts.Hosts: this machine alone.
func (p *Provider) Hosts(ctx context.Context) ([]cloud.Host, error) {
	attached, err := p.config.Net.Instances(ctx)
	if err != nil {
		return nil, err
	}
	h, err := p.host(p.config.Net.TenantSubnet(), len(attached))
	return []cloud.Host{h}, err
}

// Hosts is cloud.Hosts.Hosts: this machine alone.
func (c *Catalog) Hosts(context.Context) ([]cloud.Host, error) {
	subnet, err := c.tenant()
	if err != nil {
		return nil, err
	}
	tree, err := cgroup.Open(cgroupRoot)
	if err != nil {
		return nil, err
	}
	// Only what looks is used of it.
	p := Provider{config: c.provider.config, paths: c.provider.paths}
	p.runtime = &sandbox.Runtime{Dir: p.paths.runc(), Parent: "/" + p.paths.name, Groups: tree}
	h, err := p.host(subnet, -1)
	return []cloud.Host{h}, err
}

// host measures this machine; addresses is how many of the subnet's are used, below 0: one for each machine.
func (p *Provider) host(subnet netip.Prefix, addresses int) (h cloud.Host, err error) {
	if h.Name, err = os.Hostname(); err != nil {
		return h, fmt.Errorf("find this machine's name: %w", err)
	}
	if h.Memory.Total, h.Memory.Left, err = hostMemory(); err != nil {
		return h, err
	}
	h.Cores.Total = int64(runtime.NumCPU())
	ids, err := p.paths.instances()
	if err != nil {
		return h, err
	}
	for _, id := range ids {
		if err := p.countMachine(&h, id); err != nil {
			return h, err
		}
	}
	if addresses < 0 {
		addresses = h.Running + h.Stopped + h.Down
	}
	if subnet.IsValid() {
		h.Addresses.Total = int64(1)<<(subnet.Addr().BitLen()-subnet.Bits()) - 3 // the network's, the host's, and the one for all
	}
	h.Addresses.Used, h.Addresses.Left = int64(addresses), max(0, h.Addresses.Total-int64(addresses))
	pool, err := p.Pool()
	if err != nil {
		return h, err
	}
	h.Volumes = cloud.Amount{Total: pool.Limit(), Promised: pool.Promised, Used: pool.Used, Left: pool.Left}
	h.Pool = cloud.HostPool{
		Overcommit: pool.Overcommit, Reserved: pool.Reserved, Pending: pool.Pending, Free: pool.Free, StopMark: pool.StopMark,
	}
	h.Warnings = warnings(h, pool)
	return h, nil
}

// countMachine adds an instance's machine and volume to the host.
func (p *Provider) countMachine(h *cloud.Host, id string) error {
	if _, err := volume.Find(p.paths.in(id, "data")); err == nil {
		h.Loops++
	}
	rec, err := p.machineRecord(id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = p.runtime.Find(id)
	switch {
	case err == nil:
		h.Running++
	case !errors.Is(err, sandbox.ErrNotRunning):
		return err
	case rec.Stopped:
		h.Stopped++
		return nil
	default:
		h.Down++
	}
	l := limits(rec.Flavor, "")
	h.Memory.Promised += l.Memory
	h.Cores.Promised += int64(rec.Flavor.VCPUs)
	h.Memory.Used += p.runtime.Groups.MemoryUsed(p.runtime.Group(id))
	return nil
}

// hostMemory returns what the machine has, and what of it can be had without swapping.
func hostMemory() (total, available int64, err error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("measure the memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available, nil
}

// warnings says what comes to its end.
func warnings(h cloud.Host, pool Pool) (all []cloud.Warning) {
	warn := func(of, format string, args ...any) {
		all = append(all, cloud.Warning{Of: of, Sentence: fmt.Sprintf(format, args...)})
	}
	if h.Memory.Left < h.Memory.Total/10 {
		warn("memory", "Only %s of %s of memory are available.", inGiB(h.Memory.Left), inGiB(h.Memory.Total))
	}
	if h.Memory.Promised > h.Memory.Total {
		warn("memory", "Instances may use %s together, more than the machine has: %s.", inGiB(h.Memory.Promised), inGiB(h.Memory.Total))
	}
	switch {
	case pool.Left == 0:
		warn("volumes", "No volume can be made or grown.")
	case pool.Low():
		warn("volumes", "Only %s of %s are left for volumes.", inGiB(pool.Left), inGiB(pool.Limit()))
	}
	if h.Addresses.Left < h.Addresses.Total/10 {
		warn("addresses", "Only %d of %d addresses are left for instances.", h.Addresses.Left, h.Addresses.Total)
	}
	return all
}
