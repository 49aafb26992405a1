package cloud

import "context"

// Rebuilder is a provider that can give a machine another image in place, where its address, its host and its id stay. It is optional: elsewhere the machine is
// removed and made anew.
type Rebuilder interface {
	// RebuildMachine makes the machine run from the image of the specification, with its boot data and its previous image. One that has the image already is started
	// if it was stopped, and left alone if not: its boot data is that of the call that gave it the image. Without a machine it is NotFound.
	RebuildMachine(ctx context.Context, s MachineSpec) (Machine, error)
	// DropPrevious takes the previous image away from a machine that runs, when nothing in it needs it any more. It is called until it is done.
	DropPrevious(ctx context.Context, instance string) (done bool, err error)
}
