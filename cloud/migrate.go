package cloud

import "context"

// Placement is what a catalogue has besides where it knows about the hosts under the machines.
type Placement interface {
	// MachineHost names the host that the instance's machine is on, "" if there is none or it is not known.
	MachineHost(ctx context.Context, instance string) (string, error)
	// Migratable is nil if machines can be moved to the host, "" for any other than their own; else an error that says why not: NotImplemented
	// where there is one host, BadRequest for a host that there is not. A catalogue without it cannot move machines.
	Migratable(ctx context.Context, host string) error
}

// PlacementOfMany is what a Placement has besides where it finds the hosts of several machines with fewer questions than one for each.
type PlacementOfMany interface {
	// MachineHosts names the host of each of the instances that has a machine whose host is known.
	MachineHosts(ctx context.Context, instances []string) (map[string]string, error)
}

// Migrator is a provider with several hosts. It is optional.
type Migrator interface {
	Placement
	// MigrateMachine moves the machine from one host to another, "" for any, and starts it afresh there. It is called until the machine that it returns runs: one that has
	// left the first host is not moved again, and gets what it still needs; with the same host twice nothing is moved. Without a machine it is NotFound. A move that came
	// to nothing, after which the machine is as before, is a permanent error once.
	MigrateMachine(ctx context.Context, instance, from, to string) (Machine, error)
}
