package wire

import "time"

// Versions is the body of GET /.
type Versions struct {
	Versions []Version `json:"versions"`
}

// VersionBody is the body of GET /v1.0/.
type VersionBody struct {
	Version Version `json:"version"`
}

// Version is one version of the API.
type Version struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Updated string `json:"updated"`
	Links   []Link `json:"links"`
}

// Health is the body of GET /healthcheck for clients that accept JSON.
type Health struct {
	Detailed bool     `json:"detailed"`
	Reasons  []string `json:"reasons"`
}

// Flavor is a size of machine. ID is null when the id is not a number; StrID always has it.
type Flavor struct {
	ID        *int64 `json:"id"`
	StrID     string `json:"str_id"`
	Name      string `json:"name"`
	RAM       int    `json:"ram"` // MiB
	VCPUs     int    `json:"vcpus"`
	Disk      int    `json:"disk"` // GiB
	Ephemeral int    `json:"ephemeral"`
	Links     []Link `json:"links"`
}

// FlavorBody wraps one flavor.
type FlavorBody struct {
	Flavor Flavor `json:"flavor"`
}

// FlavorList holds all flavors: there is no paging.
type FlavorList struct {
	Flavors []Flavor `json:"flavors"`
}

// Datastore is a kind of database with its versions.
type Datastore struct {
	ID             string             `json:"id"`
	Name           string             `json:"name"`
	Links          []Link             `json:"links"`
	Versions       []DatastoreVersion `json:"versions"`
	DefaultVersion string             `json:"default_version,omitempty"`
}

// DatastoreVersion is one version. Active and what follows is for administrators.
type DatastoreVersion struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Version      string    `json:"version"`
	Links        []Link    `json:"links"`
	Datastore    string    `json:"datastore,omitempty"`   // the datastore's id; absent inside a datastore
	RequireTLS   bool      `json:"require_tls,omitempty"` // ours: databases of it let nobody in without TLS
	Active       *bool     `json:"active,omitempty"`
	Packages     *string   `json:"packages,omitempty"`
	Image        *string   `json:"image,omitempty"`
	RegistryExt  *Nullable `json:"registry_ext,omitempty"`
	ReplStrategy *Nullable `json:"repl_strategy,omitempty"`
	ImageTags    *[]string `json:"image_tags,omitempty"`
}

// DatastoreBody wraps one datastore.
type DatastoreBody struct {
	Datastore Datastore `json:"datastore"`
}

// DatastoreList holds all datastores.
type DatastoreList struct {
	Datastores []Datastore `json:"datastores"`
}

// DatastoreVersionBody wraps one version.
type DatastoreVersionBody struct {
	Version DatastoreVersion `json:"version"`
}

// DatastoreVersionList holds all versions of a datastore.
type DatastoreVersionList struct {
	Versions []DatastoreVersion `json:"versions"`
}

// Database names a database; lists give no more.
type Database struct {
	Name string `json:"name"`
}

// DatabaseCreate is a wanted database.
type DatabaseCreate struct {
	Name         string `json:"name"`
	CharacterSet string `json:"character_set,omitempty"`
	Collate      string `json:"collate,omitempty"`
}

// DatabaseList is a page of databases; DatabasesLinks is the key that gophercloud reads.
type DatabaseList struct {
	Databases      []Database `json:"databases"`
	Links          []Link     `json:"links,omitempty"`
	DatabasesLinks []Link     `json:"databases_links,omitempty"`
}

// DatabaseCreateBody is the body of POST .../databases.
type DatabaseCreateBody struct {
	Databases []DatabaseCreate `json:"databases"`
}

// DatabaseNames is the body of PUT .../users/{user}/databases.
type DatabaseNames struct {
	Databases []Database `json:"databases"`
}

// User is a user with what it may use.
type User struct {
	Name      string     `json:"name"`
	Host      string     `json:"host"`
	Databases []Database `json:"databases"`
}

// UserBody wraps one user.
type UserBody struct {
	User User `json:"user"`
}

// UserList is a page of users; UsersLinks is the key that gophercloud reads.
type UserList struct {
	Users      []User `json:"users"`
	Links      []Link `json:"links,omitempty"`
	UsersLinks []Link `json:"users_links,omitempty"`
}

// UserCreate is a wanted user.
type UserCreate struct {
	Name      string     `json:"name"`
	Password  string     `json:"password"`
	Host      string     `json:"host,omitempty"`
	Databases []Database `json:"databases,omitempty"`
}

// UserCreateBody is the body of POST and PUT .../users.
type UserCreateBody struct {
	Users []UserCreate `json:"users"`
}

// UserUpdateBody is the body of PUT .../users/{user}.
type UserUpdateBody struct {
	User UserUpdate `json:"user"`
}

// UserUpdate changes a user; what is nil stays as it is.
type UserUpdate struct {
	Name     *string `json:"name,omitempty"`
	Password *string `json:"password,omitempty"`
	Host     *string `json:"host,omitempty"`
}

// RootEnabled is the body of GET .../root.
type RootEnabled struct {
	RootEnabled bool `json:"rootEnabled"`
}

// RootRequest is the body of POST .../root, which may be absent.
type RootRequest struct {
	Password string `json:"password,omitempty"`
}

// RootBody is the answer to POST .../root: the only place that shows the password.
type RootBody struct {
	User RootUser `json:"user"`
}

// RootUser is the superuser.
type RootUser struct {
	Name     string `json:"name"`
	Password string `json:"password"`
}

// Limits is the body of GET /limits. The first element holds the absolute limits, the others the rates.
type Limits struct {
	Limits []Limit `json:"limits"`
}

// Limit is an element of Limits: an ABSOLUTE one has the maxima, any other one a rate.
type Limit struct {
	Verb          string  `json:"verb"`
	MaxInstances  *int    `json:"max_instances,omitempty"`
	MaxRAM        *int    `json:"max_ram,omitempty"`
	MaxVolumes    *int    `json:"max_volumes,omitempty"`
	MaxBackups    *int    `json:"max_backups,omitempty"`
	URI           string  `json:"uri,omitempty"`
	Regex         string  `json:"regex,omitempty"`
	Value         *int    `json:"value,omitempty"`
	Unit          string  `json:"unit,omitempty"`
	Remaining     *int    `json:"remaining,omitempty"`
	NextAvailable *string `json:"nextAvailable,omitempty"` // with Z
}

// Quota is one resource of a project.
type Quota struct {
	Resource string `json:"resource"`
	InUse    int    `json:"in_use"`
	Reserved int    `json:"reserved"`
	Limit    int    `json:"limit"`
}

// QuotaList is the body of GET /mgmt/quotas/{project}.
type QuotaList struct {
	Quotas []Quota `json:"quotas"`
}

// QuotaUpdate is the body of PUT /mgmt/quotas/{project} and of its answer: limits by resource, null ones are left alone.
type QuotaUpdate struct {
	Quotas map[string]*int `json:"quotas"`
}

// Operation is long work on an instance, an extension. Its times are RFC 3339 with Z.
type Operation struct {
	ID         string           `json:"id"`
	Kind       string           `json:"kind"` // "instance.create", ...
	InstanceID string           `json:"instance_id"`
	RequestID  string           `json:"request_id"`
	State      string           `json:"state"` // open, done, failed, undone
	Undoing    bool             `json:"undoing"`
	Cancelled  bool             `json:"cancelled"`
	Step       string           `json:"step"`
	StepNumber int              `json:"step_number"` // 0-based
	Steps      int              `json:"steps"`
	Attempt    int              `json:"attempt"`
	Sentence   string           `json:"sentence"` // what is being done or waited for
	Percent    int              `json:"percent"`
	Error      string           `json:"error,omitempty"`
	Created    time.Time        `json:"created"`
	Updated    time.Time        `json:"updated"`
	Deadline   time.Time        `json:"deadline"`
	Version    int64            `json:"version"`          // the next `since`
	Events     []OperationEvent `json:"events,omitempty"` // alone only, not in lists
}

// OperationEvent is one line of an operation's timeline.
type OperationEvent struct {
	Seq      int64     `json:"seq"`
	At       time.Time `json:"at"`
	Step     string    `json:"step"`
	Outcome  string    `json:"outcome"` // started, again, waiting, done, failed, undone, cancelled, closed
	Sentence string    `json:"sentence"`
}

// OperationBody wraps one operation.
type OperationBody struct {
	Operation Operation `json:"operation"`
}

// OperationList holds an instance's operations, newest first.
type OperationList struct {
	Operations []Operation `json:"operations"`
}

// InstanceEvent is one line of an instance's timeline: something that happened to it, or a line of one of its operations.
type InstanceEvent struct {
	ID          string     `json:"id"` // the marker of what comes after it
	At          time.Time  `json:"at"` // when it happened, or happened last
	Kind        string     `json:"kind"`
	Sentence    string     `json:"sentence"`
	Details     string     `json:"details,omitempty"`      // evidence, such as the last lines of a log
	Count       int        `json:"count"`                  // how often it happened since first
	First       *time.Time `json:"first,omitempty"`        // where count is more than 1
	OperationID string     `json:"operation_id,omitempty"` // for a line of an operation
	Operation   string     `json:"operation,omitempty"`    // its kind
	Step        string     `json:"step,omitempty"`
}

// InstanceEventList is a page of a timeline, oldest first.
type InstanceEventList struct {
	Events []InstanceEvent `json:"events"`
	Links  []Link          `json:"links,omitempty"`
}

// OperationAction is the body of POST .../operations/{id}/action.
type OperationAction struct {
	Cancel *struct{} `json:"cancel,omitempty"`
}

// VolumeType is a kind of disk.
type VolumeType struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	IsPublic    bool   `json:"is_public"`
}

// VolumeTypeList holds the volume types of a datastore version.
type VolumeTypeList struct {
	VolumeTypes []VolumeType `json:"volume_types"`
}

// Agent is the guest agent of an instance, for administrators.
type Agent struct {
	InstanceID   string    `json:"instance_id"`
	InstanceName string    `json:"instance_name"`
	ProjectID    string    `json:"project_id"`
	Version      string    `json:"version"` // "" before its first report
	Seen         time.Time `json:"seen"`    // when it was heard of last
	Running      bool      `json:"running"` // the instance's machine runs: its agent can be upgraded
}

// AgentList is a page of agents in the order of their instances' ids.
type AgentList struct {
	Agents []Agent `json:"agents"`
	Links  []Link  `json:"links,omitempty"`
}

// UpgradeAgent is the body that asks for a release of the guest agent.
type UpgradeAgent struct {
	UpgradeAgent UpgradeAgentArgs `json:"upgrade_agent"`
}

// UpgradeAgentArgs choose the release; empty ones are the newest release and 60 s.
type UpgradeAgentArgs struct {
	Version        string `json:"version,omitempty"`
	HealthySeconds int    `json:"healthy_seconds,omitempty"`
}
