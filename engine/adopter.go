package engine

import "context"

// Adopter is what an engine has besides that can begin with the data that a Python Trove has left on the volume. Without it, and for data that it does not know, an
// instance of such a Trove is not taken over.
type Adopter interface {
	// Adopt makes the data directory out of what the other Trove has left, in its place: nothing is copied, so a volume may be full of it. It comes before Prepare, with Adopted
	// set there, which removes the other Trove's own accounts. It may be repeated after a kill at any point, and does nothing where there is a data directory already. NotFound: there is
	// no such data. Nothing is changed then.
	Adopt(ctx context.Context, l Layout) error
}
