package store

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// Managed is what only administrators ask for: instances of all projects, also those that were deleted.
type Managed interface {
	// ManagedInstances returns a page, those first that were changed last; of equal times the greater id.
	ManagedInstances(ctx context.Context, f ManagedFilter) ([]trove.Instance, error)
	// DeletedInstance returns an instance that was deleted. Of its guest nothing is known any more.
	DeletedInstance(ctx context.Context, id string) (trove.Instance, error)
}

// ManagedFilter chooses a page of ManagedInstances.
type ManagedFilter struct {
	ProjectID string  // "": all projects
	Deleted   *bool   // nil: deleted ones too
	Cluster   *string // nil: any; else exactly this one's members, "": those of no cluster
	Offset    int
	Limit     int // 0: no limit
}
