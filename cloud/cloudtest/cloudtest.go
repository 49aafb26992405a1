// Package cloudtest is the suite that each driver of package cloud must pass.
//
// A driver's test calls Run with a function that makes an empty cloud and cleans up after itself. What the port cannot show (which rules are in
// force, what is left behind) the Setup offers as functions; a check whose function is nil is not made.
package cloudtest

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Setup is an empty cloud to be tested.
type Setup struct {
	Provider cloud.Provider
	// Reopen returns another provider object over the same state, as a second process or one after a crash has it.
	Reopen func(t *testing.T) cloud.Provider
	// ImageID is an image that machines can be made from.
	ImageID string
	// BootData returns the boot data for an instance; nil: an empty JSON object.
	BootData func(instance string) []byte
	// PoolGiB is a volume size that the pool cannot hold even when it is empty; 0: the full pool is not tested.
	PoolGiB int
	// Rules returns the access rules and ports in force for an instance; may be nil.
	Rules func(t *testing.T, instance string) (trove.Access, []int)
	// Leftovers returns a sorted list of what exists, in any form; may be nil.
	Leftovers func(t *testing.T) []string
	// Hosts is how many hosts there are for machines; 0: not known, so that nothing is made that has to find none.
	Hosts int
	// Project is a project with a network for its instances; "": any will do.
	Project string
	// Wait is how long a thing may be pending; 0: a minute.
	Wait time.Duration
	// Look is how long passes between two looks at something pending; 0: 5 ms.
	Look time.Duration
}

// Run runs the suite; newSetup is called for each test.
func Run(t *testing.T, newSetup func(t *testing.T) Setup) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"Catalog", (*suite).catalog},
		{"VolumeIsMadeOnceFoundAndRemoved", (*suite).volumeLife},
		{"VolumeGrowsAndNeverShrinks", (*suite).volumeSizes},
		{"VolumePoolFull", (*suite).volumePool},
		{"NetworkIsMadeOnceFoundAndRemoved", (*suite).networkLife},
		{"NetworksHaveDifferentAddresses", (*suite).networkAddresses},
		{"AccessRulesChange", (*suite).accessRules},
		{"BadNetworkSpecsAreRefused", (*suite).badNetworks},
		{"MachineIsMadeOnceFoundAndRemoved", (*suite).machineLife},
		{"MachineStopsStartsAndReboots", (*suite).machineStartStop},
		{"PreviousImageIsForOneStart", (*suite).previousImage},
		{"MachineIsResized", (*suite).machineResize},
		{"BadMachineSpecsAreRefused", (*suite).badMachines},
		{"MachinesHaveHosts", (*suite).placement},
		{"AffinityKeepsMachinesTogether", (*suite).together},
		{"AntiAffinityKeepsMachinesApart", (*suite).apart},
		{"GroupsGoWithTheirLastMachine", (*suite).groupLife},
		{"BadGroupsAreRefused", (*suite).badGroups},
		{"Names", (*suite).names},
		{"AnotherProviderFindsAll", (*suite).reopen},
		{"ListsContainExactlyOurs", (*suite).lists},
		{"HalfMadeInstancesAreRemoved", (*suite).halfMade},
		{"BadInstanceIDsAreRefused", (*suite).badIDs},
		{"EnsureAtOnceMakesOneThing", (*suite).concurrent},
		{"CancelledContextsDoNothing", (*suite).cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, Setup: newSetup(t)}
			s.Wait, s.Look = cmp.Or(s.Wait, time.Minute), cmp.Or(s.Look, 5*time.Millisecond)
			s.Project = cmp.Or(s.Project, project)
			test.run(s)
		})
	}
}

type suite struct {
	*testing.T
	Setup
	ids []string
}

const project = "6a2f7a3e-3a4e-4bb7-9a52-5f2b7c1d0e01"

// port is the engine's port in the specifications of the suite.
const port = 3306

// id returns the id of a new instance that is removed when the test ends.
func (s *suite) id() string {
	id := trove.NewID()
	s.ids = append(s.ids, id)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.Wait)
		defer cancel()
		s.ok(s.Provider.RemoveMachine(ctx, id), "RemoveMachine")
		if g, ok := s.Provider.(cloud.Grouper); ok {
			s.ok(g.RemoveGroup(ctx, id), "RemoveGroup")
		}
		s.ok(s.Provider.RemoveVolume(ctx, id), "RemoveVolume")
		s.ok(s.Provider.RemoveNetwork(ctx, id), "RemoveNetwork")
		s.ok(s.Provider.RemoveName(ctx, id), "RemoveName")
	})
	return id
}

func (s *suite) ok(err error, what string) {
	s.Helper()
	if err != nil {
		s.Errorf("%s: %v", what, err)
	}
}

func (s *suite) must(err error, what string) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// refused checks that err is permanent and of one of the kinds.
func (s *suite) refused(err error, what string, kinds ...trove.Kind) {
	s.Helper()
	if err == nil || !trove.IsPermanent(err) || !slices.Contains(kinds, trove.KindOf(err)) {
		s.Errorf("%s: error %v (kind %v, permanent %v), want a permanent one of kind %v", what, err, trove.KindOf(err), trove.IsPermanent(err), kinds)
	}
}

func (s *suite) gone(err error, what string) {
	s.Helper()
	if !trove.IsNotFound(err) {
		s.Errorf("%s: error %v, want one of kind not found", what, err)
	}
}

// eventually looks until done returns true; what says what is waited for.
func (s *suite) eventually(what string, done func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.Wait)
	defer cancel()
	for !done() {
		if clock.Sleep(ctx, s.Look) != nil {
			s.Fatalf("%s did not happen within %v", what, s.Wait)
		}
	}
}

func (s *suite) volumeSpec(id string, gib int) cloud.VolumeSpec {
	return cloud.VolumeSpec{Instance: id, Project: s.Project, SizeGiB: gib, ImageID: s.ImageID}
}

func (s *suite) networkSpec(id string) cloud.NetworkSpec {
	return cloud.NetworkSpec{Instance: id, Project: s.Project, TCPPorts: []int{port}}
}

func (s *suite) machineSpec(id string) cloud.MachineSpec {
	data := []byte("{}")
	if s.BootData != nil {
		data = s.BootData(id)
	}
	return cloud.MachineSpec{
		Instance: id, Project: s.Project, Name: "suite", ImageID: s.ImageID, Flavor: s.flavors()[0], BootData: data,
	}
}

func (s *suite) flavors() []trove.Flavor {
	s.Helper()
	all, err := s.Provider.Flavors(s.Context(), cloud.AsService())
	s.must(err, "Flavors")
	if len(all) < 2 {
		s.Fatalf("Flavors: %v, want at least two", all)
	}
	return all
}

// volume makes a volume and returns it when it is ready.
func (s *suite) volume(id string, gib int) cloud.Volume {
	s.Helper()
	var v cloud.Volume
	s.eventually("a ready volume", func() bool {
		var err error
		v, err = s.Provider.EnsureVolume(s.Context(), s.volumeSpec(id, gib))
		s.must(err, "EnsureVolume")
		if v.Failed != "" {
			s.Fatalf("the volume failed: %s", v.Failed)
		}
		return v.Ready
	})
	return v
}

// network makes a network and returns it when it is ready.
func (s *suite) network(spec cloud.NetworkSpec) cloud.Network {
	s.Helper()
	var n cloud.Network
	s.eventually("a ready network", func() bool {
		var err error
		n, err = s.Provider.EnsureNetwork(s.Context(), spec)
		s.must(err, "EnsureNetwork")
		return n.Ready
	})
	return n
}

// machine makes an instance with all that belongs to it and returns the machine when it runs.
func (s *suite) machine(id string) cloud.Machine {
	s.Helper()
	s.volume(id, 1)
	s.network(s.networkSpec(id))
	return s.ensured(s.machineSpec(id))
}

// ensured makes a machine and returns it when it runs.
func (s *suite) ensured(spec cloud.MachineSpec) cloud.Machine {
	s.Helper()
	return s.until("EnsureMachine", func() (cloud.Machine, error) { return s.Provider.EnsureMachine(s.Context(), spec) })
}

// running waits until the machine runs.
func (s *suite) running(id string) cloud.Machine {
	s.Helper()
	return s.until("FindMachine", func() (cloud.Machine, error) { return s.Provider.FindMachine(s.Context(), id) })
}

// until calls a method of the provider until the machine that it returns runs.
func (s *suite) until(what string, call func() (cloud.Machine, error)) (m cloud.Machine) {
	s.Helper()
	s.eventually("a running machine", func() bool {
		var err error
		m, err = call()
		s.must(err, what)
		if m.State == cloud.MachineFailed || m.State == cloud.MachineStopped {
			s.Fatalf("the machine is %s: %s", m.State, m.Reason)
		}
		return m.State == cloud.MachineRunning
	})
	return m
}
