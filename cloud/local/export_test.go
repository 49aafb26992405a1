package local

// For the tests of this package alone.
var (
	Hostname          = hostname
	ClaimIDs          = claimIDs
	ReleaseIDs        = releaseIDs
	AssignedElsewhere = assignedElsewhere
)

// FirstID is the first id of the ranges.
const FirstID = firstID

// Overlaps reports whether the n-th range has ids of the span.
func (s span) Overlaps(n int) bool { return s.overlaps(n) }
