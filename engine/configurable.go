package engine

import (
	"context"
	"encoding/json"

	trove "github.com/trove-dbaas/trove"
)

// Configurable is an engine whose parameters users may set, also while it runs. It is optional.
type Configurable interface {
	// Parameters returns the rules for what users may set, ordered by name; they become data of a datastore version.
	Parameters() []trove.Parameter
	// Defaults returns what an instance with these settings has before a user sets anything: those of its options that tell a user something.
	Defaults(s Settings) map[string]string
	// Apply makes these the only overrides: those that the running server can change at once, in it, and all for its later starts. A parameter that is not
	// among them any more goes back to its default. It returns the parameters whose value waits for the next start, ordered; none of them
	// keeps the server from starting. A value that the server refuses is BadRequest, and server and later starts have what they had.
	// It may be repeated. Unavailable while the server is down.
	Apply(ctx context.Context, l Layout, overrides map[string]json.RawMessage) (restart []string, err error)
}

// DriftSource is a Configurable that can tell what somebody changed in the running server past it, by SQL for instance. It is optional.
type DriftSource interface {
	// Drift compares what the running server has with what Configure and Apply gave it, overrides and derived settings alike, and returns what differs,
	// ordered by name. A value that waits for the next start differs from what was asked for and is none. It changes nothing. Unavailable while the server
	// is down.
	Drift(ctx context.Context, l Layout) ([]Difference, error)
}

// Difference is a parameter that has another value than it was given.
type Difference struct {
	Name string
	Want string // as the driver wrote it
	Is   string // as the server says it
}
