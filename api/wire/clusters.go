package wire

// Cluster is a cluster. TenantID and Deleted are there for administrators under /mgmt.
type Cluster struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	Task          ClusterTask     `json:"task"`
	Created       Time            `json:"created"`
	Updated       Time            `json:"updated"`
	Links         []Link          `json:"links"`
	Datastore     DatastoreRef    `json:"datastore"`
	Instances     []ClusterMember `json:"instances"`
	IP            []Address       `json:"ip,omitempty"`
	Locality      string          `json:"locality,omitempty"`
	Configuration string          `json:"configuration,omitempty"` // the group's id
	TenantID      string          `json:"tenant_id,omitempty"`
	Deleted       *bool           `json:"deleted,omitempty"`
}

// ClusterTask is what is being done to a cluster.
type ClusterTask struct {
	ID          int    `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// ClusterMember is an instance of a cluster. What follows ShardID is there where one cluster is shown.
type ClusterMember struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Type    string     `json:"type"`
	Links   []Link     `json:"links"`
	ShardID string     `json:"shard_id,omitempty"`
	Status  string     `json:"status,omitempty"`
	Volume  *Volume    `json:"volume,omitempty"`
	Flavor  *FlavorRef `json:"flavor,omitempty"`
	IP      []Address  `json:"ip,omitempty"`
}

// ClusterBody wraps one cluster.
type ClusterBody struct {
	Cluster Cluster `json:"cluster"`
}

// ClusterList is a page of clusters.
type ClusterList struct {
	Clusters []Cluster `json:"clusters"`
	Links    []Link    `json:"links,omitempty"`
}

// ClusterCreateBody is the body of POST /clusters.
type ClusterCreateBody struct {
	Cluster ClusterCreate `json:"cluster"`
}

// ClusterCreate is what a new cluster shall be.
type ClusterCreate struct {
	Name          string            `json:"name"`
	Datastore     DatastoreChoice   `json:"datastore"`
	Instances     []ClusterNode     `json:"instances"`
	Locality      string            `json:"locality,omitempty"`
	Properties    map[string]string `json:"extended_properties,omitempty"`
	Configuration string            `json:"configuration,omitempty"`
}

// ClusterNode is a wanted member.
type ClusterNode struct {
	Name             string        `json:"name,omitempty"` // when a cluster grows
	FlavorRef        Ref           `json:"flavorRef"`
	Volume           *VolumeCreate `json:"volume,omitempty"`
	NICs             []NIC         `json:"nics,omitempty"`
	AvailabilityZone string        `json:"availability_zone,omitempty"`
	Modules          []ModuleRef   `json:"modules,omitempty"`
	RegionName       string        `json:"region_name,omitempty"`
	RelatedTo        string        `json:"related_to,omitempty"`
	Type             string        `json:"type,omitempty"`
}

// ClusterAction is the body of POST /clusters/{id}: one of the fields is set.
type ClusterAction struct {
	Grow        []ClusterNode   `json:"grow,omitempty"`
	Shrink      []InstanceID    `json:"shrink,omitempty"`
	Upgrade     *ClusterUpgrade `json:"upgrade,omitempty"`
	Restart     *struct{}       `json:"restart,omitempty"`
	ResetStatus *ResetBody      `json:"reset-status,omitempty"`
}

// ClusterUpgrade names the wanted version.
type ClusterUpgrade struct {
	DatastoreVersion string `json:"datastore_version"`
}

// InstanceID names a member.
type InstanceID struct {
	ID string `json:"id"`
}
