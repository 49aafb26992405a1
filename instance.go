package trove

import "time"

// Instance is a database server that a project owns: one guest on one machine with one data volume.
//
// The stored row is written by the API (name, task) and by the taskmanager (everything that an operation changes). What the guest
// reports is in Guest, written by the conductor alone.
type Instance struct {
	ID        string
	ProjectID string
	Name      string
	Created   time.Time
	Updated   time.Time
	DeletedAt time.Time // zero while the instance lives

	Task               Task
	ServerStatus       ServerStatus // what the cloud last said of the machine
	DatastoreVersionID string
	FlavorID           string
	VolumeSize         int // GiB
	VolumeType         string
	Region             string
	AvailabilityZone   string
	Locality           string
	Hostname           string
	ConfigurationID    string
	ReplicaOf          string // id of the primary, "" for a primary
	ClusterID          string // "" for an instance in no cluster
	ShardID            string // of a cluster that has shards
	MemberType         string // what it is in its cluster: "member", ...
	Access             Access
	NICs               []NIC     // what the create request asked for
	Addresses          []Address // what the network gave
	Fault              *Fault
	ComputeID          string // the cloud's id of the machine, for administrators; the machine is found by name
	VolumeID           string // the cloud's id of the volume, likewise
	ServerID           uint32 // the engine's number in a replica set; never 0, unique in the store

	// Held is what the instance holds of its project's quota, by resource. Whoever takes or gives back quota for the instance changes it
	// in the same transaction, so that nothing is given back twice.
	Held map[string]int

	// Storage is the alarm of the data volume and whether it grows by itself.
	Storage Storage

	// BackingUp says that a backup that a user asked for is running. The store keeps it with the backups; it is never written with the instance.
	BackingUp bool

	Guest GuestState // read joined; never written with the instance

	Version int64 // raised with each write; store.Tx.UpdateInstance checks it
}

// Access says who may reach an instance's database port.
type Access struct {
	IsPublic     bool     `json:"is_public"`
	AllowedCIDRs []string `json:"allowed_cidrs,omitempty"` // empty: everybody who can route to the address
}

// NIC is one network attachment that a create request named.
type NIC struct {
	NetworkID string `json:"network_id,omitempty"`
	SubnetID  string `json:"subnet_id,omitempty"`
	IPAddress string `json:"ip_address,omitempty"`
}

// Address is one address under which the database can be reached.
type Address struct {
	Address string `json:"address"`
	Type    string `json:"type"`              // "private" or "public"
	Network string `json:"network,omitempty"` // network id, private addresses only
	Port    int    `json:"port,omitempty"`    // where it is not the engine's own
}

// Fault is why the last operation on an instance failed.
type Fault struct {
	Message string
	Details string // evidence for administrators
	Created time.Time
}

// GuestState is what the conductor knows from the guest's reports.
type GuestState struct {
	Service      ServiceStatus
	SeenAt       time.Time // when the last report arrived, by the conductor's clock; zero before the first
	BootID       string    // changes with each start of the guest's machine
	AgentVersion string
	VolumeUsed   int64 // bytes
	VolumeTotal  int64 // bytes
	AgentStart   int64 // names the agent's process: another value is another start; 0 before it said so
	EventAt      int64 // names the last event of the guest that was written
}

// RootHistory is one line of who enabled the superuser and when.
type RootHistory struct {
	InstanceID string
	UserID     string
	Enabled    time.Time
	Disabled   time.Time // zero while enabled
}

// HeartbeatExpiry is how long a guest may be silent before operating_status is ERROR: three intervals of 10 s and a margin
// (bus-and-operations: default 10 s between heartbeats, expiry 35 s).
const HeartbeatExpiry = 35 * time.Second

// Status returns the API's `status`: what is happening to the instance. It is the algorithm of Trove's
// instance model, first match wins; backingUp says that a backup asked for by a user is running.
func (i *Instance) Status(backingUp bool) string {
	if i.Task.IsError() {
		return "ERROR"
	}
	switch i.Task {
	case TaskBuilding:
		if i.ServerStatus == ServerError {
			return "ERROR"
		}
		return "BUILD"
	case TaskRebooting:
		return "REBOOT"
	case TaskResizing:
		return "RESIZE"
	case TaskUpgrading:
		return "UPGRADE"
	case TaskRestartRequired:
		return "RESTART_REQUIRED"
	case TaskPromoting:
		return "PROMOTE"
	case TaskEjecting:
		return "EJECT"
	case TaskDetaching:
		return "DETACH"
	case TaskDeleting:
		switch i.ServerStatus {
		case ServerActive, ServerShutdown, ServerDeleted, ServerNone:
			return "SHUTDOWN"
		}
		return "ERROR"
	}
	if backingUp {
		return "BACKUP"
	}
	switch i.ServerStatus {
	case ServerBuild, ServerError, ServerReboot, ServerResize, ServerActive, ServerShutdown:
		return string(i.ServerStatus)
	case ServerVerifyResize:
		return "RESIZE"
	}
	return "UNKNOWN"
}

// CutOff marks an instance whose build nobody goes on with and nobody has undone. What it has made may be a database in use, so it counts as a machine in error:
// a row with neither machine nor volume would give it to nobody, and what nobody owns is removed.
func (i *Instance) CutOff() {
	i.Task = TaskBuildErrorServer
	if i.ServerStatus == ServerNone && i.VolumeID == "" {
		i.ServerStatus = ServerError
	}
}

// OperatingStatus returns the API's `operating_status`: the health of the database as of now, "" while a task runs or the machine
// is not active. An instance that was stopped is SHUTDOWN: its silence is no error.
func (i *Instance) OperatingStatus(now time.Time) string {
	if i.Task == TaskNone && i.Stopped() {
		return ServiceShutdown.APIStatus()
	}
	if i.Task != TaskNone || i.ServerStatus != ServerActive {
		return ""
	}
	if i.Guest.Service != ServiceRestartRequired && i.Silent(now) {
		return "ERROR"
	}
	return i.Guest.Service.APIStatus()
}

// Stopped reports whether the instance was stopped on purpose: its machine does not run and nothing but a start makes it run again.
func (i *Instance) Stopped() bool { return i.ServerStatus == ServerShutdown }

// Silent reports whether the guest has not been heard of for longer than HeartbeatExpiry.
func (i *Instance) Silent(now time.Time) bool {
	return now.Sub(i.Guest.SeenAt) > HeartbeatExpiry
}

// CheckActionable returns nil if the instance can take a new mutating action, else the Unprocessable error that Trove
// answers with: it names the task, or the status where no task is in the way.
func (i *Instance) CheckActionable(backingUp bool) error {
	const text = "Instance %s is not currently available for an action to be performed (%s status was %s)."
	if i.Task != TaskNone && i.Task != TaskRestartRequired {
		return Errorf(KindUnprocessable, text, i.ID, "task", i.Task.Action())
	}
	if i.ServerStatus == ServerActive && i.Guest.Service.ActionAllowed() && !backingUp {
		return nil
	}
	if i.Stopped() {
		return Errorf(KindUnprocessable, "Instance %s is stopped (status SHUTDOWN): start it first.", i.ID)
	}
	return Errorf(KindUnprocessable, text, i.ID, "instance", i.Status(backingUp))
}

// CheckChangeable is CheckActionable for an action that a stopped instance takes too.
func (i *Instance) CheckChangeable(backingUp bool) error {
	if i.Stopped() && i.Task == TaskNone {
		return nil
	}
	return i.CheckActionable(backingUp)
}

// CheckStoppable returns nil if the instance can be stopped, else an Unprocessable error. The database may be in any state.
func (i *Instance) CheckStoppable(backingUp bool) error {
	switch {
	case i.Task == TaskNone && i.Stopped():
		return Errorf(KindUnprocessable, "Instance %s is stopped already.", i.ID)
	case (i.Task == TaskNone || i.Task == TaskRestartRequired) && i.ServerStatus == ServerActive && !backingUp:
		return nil
	}
	return i.CheckActionable(backingUp)
}

// CheckStartable returns nil if the instance is stopped and can be started, else an Unprocessable error.
func (i *Instance) CheckStartable() error {
	if i.Task == TaskNone && i.Stopped() {
		return nil
	}
	if err := i.CheckActionable(i.BackingUp); err != nil && i.Task != TaskNone {
		return err
	}
	return Errorf(KindUnprocessable, "Instance %s is not stopped (status %s): there is nothing to start.", i.ID, i.Status(i.BackingUp))
}

// CheckRebootable returns nil if the instance's machine can be taken down and brought up again, else an Unprocessable error. Database, guest and machine may
// be in any state: this is how they are mended.
func (i *Instance) CheckRebootable(backingUp bool) error {
	switch {
	case (i.Task == TaskNone || i.Task == TaskRestartRequired) && (i.ServerStatus == ServerActive || i.ServerStatus == ServerError) && !backingUp:
		return nil
	case i.Stopped():
		return i.CheckActionable(backingUp)
	}
	return Errorf(KindUnprocessable, "Instance %s is not currently available for an action to be performed (task status was %s, instance status was %s).",
		i.ID, i.Task.Action(), i.Status(backingUp))
}
