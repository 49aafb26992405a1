// Package fake is a cloud in memory, with knobs to make it fail, wait and lose its replies.
//
// The state outlives the Cloud object that made it: Reopen returns another object over the same state, as a worker that starts after a crash
// would have. It passes cloudtest like every driver, and is stricter than the port where that finds mistakes of callers: a machine needs its
// volume and its network first, and a volume cannot be removed under its machine. All methods may be called from several goroutines; hooks
// run in the caller's goroutine without any lock held, so they may call the cloud, cancel contexts or end the goroutine.
package fake

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Options is what a fake cloud offers. The zero value offers a small catalogue without images.
type Options struct {
	Flavors     []trove.Flavor        // empty: "1" to "3", of 512, 1024 and 2048 MiB
	VolumeTypes []cloud.VolumeType    // empty: one, "default"
	Networks    []cloud.TenantNetwork // empty: one, 10.20.0.0/16; the first is a project's default
	Images      []string              // ids that can be used
	PoolGiB     int                   // size of the volume pool; 0: no limit
	Looks       int                   // how many looks a new thing takes until it is ready; 0: ready at once
	Domain      string                // "": no name service
	Hosts       []string              // machines are made on the first and can be moved to the others; empty: one, "fake"

	// Boot is called when a machine starts, each time, with the boot data that it was made with; Halt when it stops for whatever reason.
	Boot func(instance string, bootData []byte)
	Halt func(instance string)
}

// Cloud is the provider.
type Cloud struct{ *state }

var _ cloud.Provider = (*Cloud)(nil)

type state struct {
	mu       sync.Mutex // guards all below
	opt      Options
	machines map[string]*machine
	volumes  map[string]*volume
	vanished map[string]*volume // volumes that are gone, and may come back
	networks map[string]*network
	names    map[string]string
	groups   map[string]cloud.Policy // by id
	serial   int                     // for ids, boot ids and addresses

	onCall   func(op, instance string)
	failNext map[string][]error
	failAll  map[string]error
	loseNext map[string]int
	delay    map[string]time.Duration
	calls    []string
	hidden   map[hiding]bool
}

// hiding is a thing of the catalogue and the token whose bearer does not see it.
type hiding struct {
	id    string
	token trove.Secret
}

type machine struct {
	cloud.Machine
	spec  cloud.MachineSpec
	group string // the id of the group that it is in, "" for none
	host  string
	looks int
}

type volume struct {
	cloud.Volume
	looks int
}

type network struct {
	cloud.Network
	spec  cloud.NetworkSpec
	looks int
}

// New returns a cloud in which nothing exists.
func New(opt Options) *Cloud {
	if len(opt.Flavors) == 0 {
		opt.Flavors = []trove.Flavor{
			{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1},
			{ID: "2", Name: "db.small", RAM: 1024, VCPUs: 1},
			{ID: "3", Name: "db.medium", RAM: 2048, VCPUs: 2},
		}
	}
	if len(opt.VolumeTypes) == 0 {
		opt.VolumeTypes = []cloud.VolumeType{{ID: "default", Name: "default", Description: "in memory", IsPublic: true}}
	}
	if len(opt.Networks) == 0 {
		opt.Networks = []cloud.TenantNetwork{{
			ID: "5f1c4a53-91a4-4a6e-8c0e-6f0f3f1a0001", Name: "default",
			Subnets: []cloud.Subnet{{ID: "5f1c4a53-91a4-4a6e-8c0e-6f0f3f1a0002", CIDR: "10.20.0.0/16"}},
		}}
	}
	return &Cloud{&state{
		opt:      opt,
		machines: map[string]*machine{},
		volumes:  map[string]*volume{},
		vanished: map[string]*volume{},
		networks: map[string]*network{},
		names:    map[string]string{},
		groups:   map[string]cloud.Policy{},
		failNext: map[string][]error{},
		failAll:  map[string]error{},
		loseNext: map[string]int{},
		delay:    map[string]time.Duration{},
		hidden:   map[hiding]bool{},
	}}
}

// Reopen returns another provider over the same state, knobs and hooks.
func (c *Cloud) Reopen() *Cloud { return &Cloud{c.state} }

// Leftovers returns everything that exists, as "kind instance-id", sorted.
func (c *Cloud) Leftovers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []string{}
	for id := range c.machines {
		all = append(all, "machine "+id)
	}
	for id := range c.volumes {
		all = append(all, "volume "+id)
	}
	for id := range c.networks {
		all = append(all, "network "+id)
	}
	for id := range c.names {
		all = append(all, "name "+id)
	}
	for id := range c.groups {
		all = append(all, "group "+id)
	}
	slices.Sort(all)
	return all
}

// Rules returns the access rules and ports in force for the instance, false if it has no network.
func (c *Cloud) Rules(instance string) (trove.Access, []int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.networks[instance]
	if !ok {
		return trove.Access{}, nil, false
	}
	a := n.spec.Access
	a.AllowedCIDRs = slices.Clone(a.AllowedCIDRs)
	return a, slices.Clone(n.spec.TCPPorts), true
}

// BootData returns the boot data that the instance's machine was made with, nil without a machine.
func (c *Cloud) BootData(instance string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.machines[instance]; ok {
		return slices.Clone(m.spec.BootData)
	}
	return nil
}

// nextID returns an id that was not given before. The caller holds the lock.
func (s *state) nextID() string {
	s.serial++
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", s.serial)
}

// nextAddress returns an address of the subnet that no network has. The caller holds the lock.
func (s *state) nextAddress(subnet netip.Prefix) (netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for n := range maps.Values(s.networks) {
		for _, a := range n.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				taken[ip] = true
			}
		}
	}
	for ip := subnet.Masked().Addr().Next().Next(); subnet.Contains(ip); ip = ip.Next() {
		if !taken[ip] {
			return ip, nil
		}
	}
	return netip.Addr{}, trove.Permanent(trove.Errorf(trove.KindOverLimit, "The network %s has no free address.", subnet))
}
