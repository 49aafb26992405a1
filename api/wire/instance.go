package wire

// Instance is an instance in lists, in details and alone. What a list leaves out is absent.
type Instance struct {
	ID              string         `json:"id"`
	Name            string         `json:"name"`
	Status          string         `json:"status"`
	OperatingStatus string         `json:"operating_status"`
	Links           []Link         `json:"links"`
	Flavor          FlavorRef      `json:"flavor"`
	Datastore       DatastoreRef   `json:"datastore"`
	Region          string         `json:"region"`
	Access          Access         `json:"access"`
	TenantID        string         `json:"tenant_id,omitempty"` // administrators only
	Volume          *Volume        `json:"volume,omitempty"`
	StorageAlarm    string         `json:"storage_alarm,omitempty"` // not in Trove: "high" or "full", of a single instance
	Hostname        string         `json:"hostname,omitempty"`
	IP              []string       `json:"ip,omitempty"`
	Addresses       []Address      `json:"addresses,omitempty"`
	ReplicaOf       *InstanceRef   `json:"replica_of,omitempty"`
	Replicas        []InstanceRef  `json:"replicas,omitempty"`
	Created         *Time          `json:"created,omitempty"`
	Updated         *Time          `json:"updated,omitempty"`
	ServiceUpdated  *Time          `json:"service_status_updated,omitempty"`
	Configuration   *Configuration `json:"configuration,omitempty"`
	Locality        string         `json:"locality,omitempty"`
	ClusterID       string         `json:"cluster_id,omitempty"`
	ShardID         string         `json:"shard_id,omitempty"`
	Password        string         `json:"password,omitempty"` // only in the answer to a create that enables root
	Fault           *InstanceFault `json:"fault,omitempty"`
	ServerID        *Nullable      `json:"server_id,omitempty"` // administrators only, like the next two
	VolumeID        *Nullable      `json:"volume_id,omitempty"`
	EncryptedRPC    *bool          `json:"encrypted_rpc_messaging,omitempty"`
}

// FlavorRef names the flavor of an instance; the id is a string even if it is a number.
type FlavorRef struct {
	ID    string `json:"id"`
	Links []Link `json:"links"`
}

// DatastoreRef names what an instance runs. Type and Version are null when the version is gone.
type DatastoreRef struct {
	Type          *string `json:"type"`
	Version       *string `json:"version"`
	VersionNumber *string `json:"version_number,omitempty"` // details only
}

// Access is who may reach an instance; an instance without rules and addresses has {}.
type Access struct {
	IsPublic     *bool    `json:"is_public,omitempty"`
	AllowedCIDRs []string `json:"allowed_cidrs,omitempty"`
}

// Volume is the data volume, in GiB.
type Volume struct {
	Size        int      `json:"size"`
	Used        *float64 `json:"used,omitempty"`
	UsedPercent *float64 `json:"used_percent,omitempty"`
}

// Address is where clients connect to.
type Address struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	Network string `json:"network,omitempty"`
	Port    int    `json:"port,omitempty"` // where it is not the engine's own
}

// InstanceRef points to another instance.
type InstanceRef struct {
	ID    string `json:"id"`
	Links []Link `json:"links"`
}

// Configuration points to a configuration group.
type Configuration struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Links []Link `json:"links"`
}

// InstanceFault is why the last operation failed. Details are for administrators.
type InstanceFault struct {
	Message string  `json:"message"`
	Created Time    `json:"created"`
	Details *string `json:"details"`
}

// InstanceBody wraps one instance.
type InstanceBody struct {
	Instance Instance `json:"instance"`
}

// InstanceList is a page. Links holds the next page, and so does InstancesLinks, which is the key that gophercloud reads.
type InstanceList struct {
	Instances      []Instance `json:"instances"`
	Links          []Link     `json:"links,omitempty"`
	InstancesLinks []Link     `json:"instances_links,omitempty"`
}

// InstanceCreateBody is the body of POST /instances.
type InstanceCreateBody struct {
	Instance InstanceCreate `json:"instance"`
}

// InstanceCreate is what a new instance shall be.
type InstanceCreate struct {
	Name             string           `json:"name"`
	FlavorRef        Ref              `json:"flavorRef,omitempty"`
	Volume           *VolumeCreate    `json:"volume,omitempty"`
	Databases        []DatabaseCreate `json:"databases,omitempty"`
	Users            []UserCreate     `json:"users,omitempty"`
	Datastore        *DatastoreChoice `json:"datastore,omitempty"`
	NICs             []NIC            `json:"nics,omitempty"`
	AvailabilityZone string           `json:"availability_zone,omitempty"`
	RegionName       string           `json:"region_name,omitempty"`
	ReplicaOf        string           `json:"replica_of,omitempty"`
	ReplicaCount     int              `json:"replica_count,omitempty"`
	Locality         string           `json:"locality,omitempty"`
	RestorePoint     *RestorePoint    `json:"restorePoint,omitempty"`
	Modules          []ModuleRef      `json:"modules,omitempty"`
	Access           *AccessRequest   `json:"access,omitempty"`
	Configuration    string           `json:"configuration,omitempty"` // id of a configuration group
}

// VolumeCreate is the wanted data volume.
type VolumeCreate struct {
	Size Size    `json:"size"`
	Type *string `json:"type,omitempty"`
}

// DatastoreChoice names a datastore and a version, each by id or name.
type DatastoreChoice struct {
	Type          string `json:"type,omitempty"`
	Version       string `json:"version,omitempty"`
	VersionNumber string `json:"version_number,omitempty"`
}

// NIC is a wanted network attachment. NetID is an older name of NetworkID.
type NIC struct {
	NetworkID string `json:"network_id,omitempty"`
	NetID     string `json:"net-id,omitempty"`
	SubnetID  string `json:"subnet_id,omitempty"`
	IPAddress string `json:"ip_address,omitempty"`
}

// AccessRequest are wanted access rules; what is nil stays as it is.
type AccessRequest struct {
	IsPublic     *bool     `json:"is_public,omitempty"`
	AllowedCIDRs *[]string `json:"allowed_cidrs,omitempty"`
}

// InstanceUpdateBody is the body of PUT /instances/{id}.
type InstanceUpdateBody struct {
	Instance InstanceUpdate `json:"instance"`
}

// InstanceUpdate changes an instance; what is nil stays as it is.
type InstanceUpdate struct {
	Name   *string        `json:"name,omitempty"`
	Access *AccessRequest `json:"access,omitempty"`
	// Configuration is the id of the configuration group to attach, or null to detach: SetConfiguration makes it.
	Configuration *Nullable `json:"configuration,omitempty"`
	// DatastoreVersion is the name or the id of another version: an upgrade.
	DatastoreVersion string `json:"datastore_version,omitempty"`
}

// SetConfiguration is the configuration group of an InstanceUpdate; "" detaches.
func SetConfiguration(id string) *Nullable {
	n := Nullable(id)
	return &n
}

// Action is the body of POST /instances/{id}/action: one of the fields is set.
type Action struct {
	Restart     *struct{}  `json:"restart,omitempty"`
	Stop        *struct{}  `json:"stop,omitempty"`
	Start       *struct{}  `json:"start,omitempty"`
	Resize      *Resize    `json:"resize,omitempty"`
	ResetStatus *ResetBody `json:"reset_status,omitempty"`

	UpgradeRollback *struct{} `json:"upgrade_rollback,omitempty"`
	UpgradeConfirm  *struct{} `json:"upgrade_confirm,omitempty"`
}

// ResetBody is the argument of reset_status.
type ResetBody struct {
	ForceDelete any `json:"force_delete,omitempty"`
}

// Resize changes the flavor or the volume: one of the fields is set.
type Resize struct {
	FlavorRef Ref           `json:"flavorRef,omitempty"`
	Volume    *VolumeCreate `json:"volume,omitempty"`
}
