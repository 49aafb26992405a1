package trove

import (
	"slices"
	"time"
)

// ClusterTask is what is being done to a cluster: Trove's ClusterTasks with their codes, which are stored.
type ClusterTask int

// The tasks.
const (
	ClusterNone        ClusterTask = 1
	ClusterBuilding    ClusterTask = 2
	ClusterDeleting    ClusterTask = 3
	ClusterAddingShard ClusterTask = 4
	ClusterGrowing     ClusterTask = 5
	ClusterShrinking   ClusterTask = 6
	ClusterUpgrading   ClusterTask = 7
	ClusterRestarting  ClusterTask = 8
	ClusterUpdating    ClusterTask = 9
)

var clusterTasks = map[ClusterTask]struct{ name, description string }{
	ClusterNone:        {"NONE", "No tasks for the cluster."},
	ClusterBuilding:    {"BUILDING", "Building the initial cluster."},
	ClusterDeleting:    {"DELETING", "Deleting the cluster."},
	ClusterAddingShard: {"ADDING_SHARD", "Adding a shard to the cluster."},
	ClusterGrowing:     {"GROWING_CLUSTER", "Increasing the size of the cluster."},
	ClusterShrinking:   {"SHRINKING_CLUSTER", "Decreasing the size of the cluster."},
	ClusterUpgrading:   {"UPGRADING_CLUSTER", "Upgrading the cluster to new version."},
	ClusterRestarting:  {"RESTARTING_CLUSTER", "Restarting the cluster."},
	ClusterUpdating:    {"UPDATING_CLUSTER", "Updating cluster configuration."},
}

// Name returns Trove's word for the task, "" for a code that is none.
func (t ClusterTask) Name() string { return clusterTasks[t].name }

// Description returns Trove's sentence for the task.
func (t ClusterTask) Description() string { return clusterTasks[t].description }

// Cluster is a set of instances that serve the same data. Its members are the instances with its id.
type Cluster struct {
	ID                 string
	ProjectID          string
	Name               string
	Task               ClusterTask
	DatastoreVersionID string
	ConfigurationID    string // "": none
	Created            time.Time
	Updated            time.Time
	DeletedAt          time.Time // zero while the cluster lives
}

// CheckIdle returns nil if nothing is being done to the cluster, or only what is among others, else the Unprocessable error that Trove answers with.
func (c *Cluster) CheckIdle(others ...ClusterTask) error {
	if c.Task == ClusterNone || slices.Contains(others, c.Task) {
		return nil
	}
	return Errorf(KindUnprocessable, "This action cannot be performed on the cluster while the current cluster task is '%s'.", c.Task.Name())
}
