// Package cloud is the port to what instances are made of: machines, volumes, networks, names, images, and the catalogue of what can be
// chosen.
//
// Every outside thing has a name derived from the instance id and is found again by it, so every method may be called any number
// of times, also by another process after a crash at any point. Ensure makes a thing be there as specified and returns it; Find looks and
// returns a NotFound error (trove.IsNotFound) when it is not there; Remove makes it be gone and succeeds when it is. What takes
// long is started by Ensure, which then returns the thing in a pending state: callers look again, by Ensure (or ResizeMachine) where they have called it, which
// carries on what takes several steps. Nobody waits inside the port, but Remove for a moment.
// Errors that trying again cannot mend are permanent (trove.IsPermanent): a full pool is OverLimit, a wrong specification BadRequest.
// All methods may be called from several goroutines, for one instance too.
//
// Drivers: local (sandboxes on this machine), fake (in memory, with knobs to fail, delay and lose replies), openstack. cloudtest is the suite
// that each must pass.
package cloud

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// Provider is a whole cloud. Callers take the part that they need.
type Provider interface {
	Machines
	Volumes
	Networks
	Names
	Catalog
}

// Machines are the servers that guests run in.
type Machines interface {
	// EnsureMachine makes the machine exist and run with the given volume, ports and flavor. A machine that is there already is
	// returned; if it was stopped it is started; if only its flavor differs see ResizeMachine. Boot data is used at the first boot only. The previous
	// image is for the start that this call makes: a machine that runs keeps what it has, and every later start that names none is without. The group is
	// for a new machine: one that cannot be placed by its policy is refused for good, or fails with a reason that says so.
	EnsureMachine(ctx context.Context, s MachineSpec) (Machine, error)
	FindMachine(ctx context.Context, instance string) (Machine, error)
	// StopMachine stops the machine (the caller asked the guest to stop its engine before) and keeps all that belongs to it.
	StopMachine(ctx context.Context, instance string) error
	// RebootMachine starts the machine afresh, whether it runs or not, with the specification that it was made with.
	RebootMachine(ctx context.Context, instance string) error
	// ResizeMachine gives the machine the flavor's memory and cores. Where that needs a restart of the machine, the machine is pending until then.
	ResizeMachine(ctx context.Context, instance string, f trove.Flavor) (Machine, error)
	RemoveMachine(ctx context.Context, instance string) error
	// Machines returns all machines of this deployment; the reconciler compares them with the store. A list may be made of little: of a machine only Instance
	// and State are sure to be in it, of a volume or network only Instance, and a machine that runs may be about to do something else.
	Machines(ctx context.Context) ([]Machine, error)
}

// MachineSpec is what a machine shall be.
type MachineSpec struct {
	Instance string
	Project  string
	Name     string // the instance's name, for people
	ImageID  string
	Flavor   trove.Flavor
	Zone     string
	BootData []byte // JSON of bus.BootData
	// PreviousImageID is an image whose root file system the guest shall see read-only beside its own, where imagelayout.PreviousDir is; "": none. It
	// lets the programs of a new version ask those of the version that wrote the data.
	PreviousImageID string
	Group           Group
}

// MachineState is where a machine stands.
type MachineState string

// The states of a machine.
const (
	MachinePending MachineState = "pending" // being made, started or resized: look again
	MachineRunning MachineState = "running"
	MachineStopped MachineState = "stopped" // on purpose or because it ended by itself
	MachineFailed  MachineState = "failed"  // will not get better; Reason says why
)

// Machine is a server as the cloud has it.
type Machine struct {
	ID       string // the cloud's own id
	Instance string
	State    MachineState
	Reason   string // a sentence, for MachineFailed and MachineStopped where it is known
	Anew     int    // with MachineFailed: what it failed of may pass, and it is worth while to make a machine anew so often
	FlavorID string
	ImageID  string
	// PreviousImageID is the image whose root the running machine sees beside its own, "" for none and while it does not run.
	PreviousImageID string
	BootID          string // differs after each start of the machine; "" where the cloud does not know
}

// Volumes are the disks that data lives on.
type Volumes interface {
	// EnsureVolume makes the volume exist with at least the given size, growing one that is smaller, online if it is in use. It never
	// deletes and never shrinks: a smaller size than the volume has is a permanent error of kind BadRequest. A new volume is filled from the
	// image's golden data directory where the cloud has one.
	EnsureVolume(ctx context.Context, s VolumeSpec) (Volume, error)
	FindVolume(ctx context.Context, instance string) (Volume, error)
	RemoveVolume(ctx context.Context, instance string) error
	Volumes(ctx context.Context) ([]Volume, error)
}

// VolumeSpec is what a volume shall be.
type VolumeSpec struct {
	Instance string
	Project  string
	SizeGiB  int
	Type     string // "": the default type
	Zone     string // of the machine that is to have it
	ImageID  string
}

// Volume is a disk as the cloud has it.
type Volume struct {
	ID       string
	Instance string
	SizeGiB  int
	Ready    bool   // false: look again
	Failed   string // a sentence when it will not get better
}

// Networks are ports and who may reach them.
type Networks interface {
	// EnsureNetwork makes the instance's ports exist (one on the management network, one on the tenant's) and the access rules in force;
	// called again with other rules it changes them. The database ports are open to the access rules and nothing else is. A port that is gone is made again with
	// its address, if that is free; a machine that is there has it from its next start on.
	EnsureNetwork(ctx context.Context, s NetworkSpec) (Network, error)
	FindNetwork(ctx context.Context, instance string) (Network, error)
	RemoveNetwork(ctx context.Context, instance string) error
	Networks(ctx context.Context) ([]Network, error)
}

// NetworkSpec is what the instance's network shall be.
type NetworkSpec struct {
	Instance string
	Project  string
	NICs     []trove.NIC // empty: the tenant's default network
	Access   trove.Access
	TCPPorts []int // the engine's ports that clients may reach
}

// Network is an instance's attachment as the cloud has it.
type Network struct {
	ID        string
	Instance  string
	Ready     bool
	Addresses []trove.Address // where clients connect to
}

// Names gives instances host names, where the cloud has a name service.
type Names interface {
	// EnsureName returns the host name, "" where there is no name service.
	EnsureName(ctx context.Context, instance string, addresses []trove.Address) (string, error)
	RemoveName(ctx context.Context, instance string) error
}

// Catalog is what users can choose from. It reads only; trove-api uses this part alone. What the rights do not let see is not there: lists leave it
// out, and a thing is NotFound. A token that the cloud does not take any more is Unauthorized.
type Catalog interface {
	Flavors(ctx context.Context, by Rights) ([]trove.Flavor, error)
	Flavor(ctx context.Context, by Rights, id string) (trove.Flavor, error) // NotFound
	VolumeTypes(ctx context.Context, by Rights) ([]VolumeType, error)
	// TenantNetworks returns the networks that the project of the rights may attach to.
	TenantNetworks(ctx context.Context, by Rights) ([]TenantNetwork, error)
	// ImageExists reports whether an image can be used, NotFound with a sentence if not.
	ImageExists(ctx context.Context, id string) error
}

// PublicAccess is what a catalogue has besides where instances may not be reachable from outside.
type PublicAccess interface {
	// PublicAccess is nil if instances can be public, else a BadRequest that says what is missing. A catalogue without it can always.
	PublicAccess(ctx context.Context) error
}

// VolumeType is a kind of disk.
type VolumeType struct {
	ID          string
	Name        string
	Description string
	IsPublic    bool
}

// TenantNetwork is a network of a project.
type TenantNetwork struct {
	ID      string
	Name    string
	Subnets []Subnet
}

// Subnet is an address range of a network.
type Subnet struct {
	ID   string
	CIDR string
}
