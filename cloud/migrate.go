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

// Migrator is a provider with several hosts. It is optional.
type Migrator interface {
	Placement
	// MigrateMachine moves the machine to the host, "" for any other than its own, and starts it afresh there; FindMachine tells when it runs. A
	// machine that is on the named host already is left alone. Without a machine it is NotFound.
	MigrateMachine(ctx context.Context, instance, host string) error
}
