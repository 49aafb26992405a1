package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Clusters is what can be read of clusters. The members are instances: InstanceFilter.Cluster.
type Clusters interface {
	// Cluster returns a cluster, also a deleted one. The error of one that is not there is NotFound in Trove's words for clusters.
	Cluster(ctx context.Context, id string) (trove.Cluster, error)
	// Clusters returns a page, ordered by id.
	Clusters(ctx context.Context, f ClusterFilter) ([]trove.Cluster, error)
}

// ClusterFilter chooses a page of clusters.
type ClusterFilter struct {
	ProjectID string // "": all projects
	Deleted   *bool  // nil: living and deleted ones; else exactly the deleted or the living ones
	Marker    string // ids after this one
	Limit     int    // 0: no limit
}

// ClustersTx is what can be written.
type ClustersTx interface {
	InsertCluster(ctx context.Context, c trove.Cluster) error
	// UpdateCluster reads the living cluster, lets change alter it and writes every column but id, project and created. Updated is set to now.
	UpdateCluster(ctx context.Context, id string, now time.Time, change func(*trove.Cluster) error) error
	// DeleteCluster marks the cluster deleted. Gone is fine.
	DeleteCluster(ctx context.Context, id string, now time.Time) error
}
