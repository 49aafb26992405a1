package cloud

import (
	"context"
	"time"
)

// Patience is how long things of a cloud may take where that is longer than on this machine; 0: no longer than there.
type Patience struct {
	Network time.Duration // to make ports
	Volume  time.Duration // to make or grow a volume
	Boot    time.Duration // from the wish for a machine until its guest reports
	Resize  time.Duration // to give a machine another flavor
	Look    time.Duration // between two looks at something pending
	Sweep   time.Duration // between two lists of all that the deployment has; 0: they cost nothing
}

// Patient is a provider that says how patient its callers have to be. It is optional.
type Patient interface {
	Patience() Patience
}

// NetworkOf is what a catalogue has besides where an instance needs a network of its owner. It is optional: elsewhere there is a network for whoever names none.
type NetworkOf interface {
	// NetworkOf returns the id of the network of a request that names none. A BadRequest says that, and why, the caller has to name one.
	NetworkOf(ctx context.Context, by Rights) (string, error)
}
