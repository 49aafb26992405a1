package trove

// Task is what is being done to an instance: Trove's InstanceTasks with their codes, which are stored.
type Task int

// The tasks. Codes from 0x50 on are errors, with the exception of TaskUpgrading.
const (
	TaskNone                Task = 1
	TaskDeleting            Task = 2
	TaskRebooting           Task = 3
	TaskResizing            Task = 4
	TaskBuilding            Task = 5
	TaskMigrating           Task = 6
	TaskRestartRequired     Task = 7
	TaskPromoting           Task = 8
	TaskEjecting            Task = 9
	TaskDetaching           Task = 0x0b
	TaskUpdating            Task = 0x0c
	TaskBuildErrorDNS       Task = 0x50
	TaskBuildErrorServer    Task = 0x51
	TaskBuildErrorVolume    Task = 0x52
	TaskBuildErrorSecGroup  Task = 0x53
	TaskBuildErrorReplica   Task = 0x54
	TaskPromotionError      Task = 0x55
	TaskEjectionError       Task = 0x56
	TaskUpgrading           Task = 0x59
	TaskUpgradingError      Task = 0x5a
	TaskBuildErrorTimeout   Task = 0x5b
	TaskBuildErrorPort      Task = 0x5c
	TaskUpdatingErrorAccess Task = 0x5d
	TaskGuestRevoked        Task = 0x5e // not one of Trove's: the guest misused the bus and cannot be commanded any more
)

// IsError reports whether the task is the mark of a failed operation.
func (t Task) IsError() bool {
	return t >= TaskBuildErrorDNS && t <= TaskGuestRevoked && t != TaskUpgrading
}

// Action returns Trove's word for the task, as mgmt views show it.
func (t Task) Action() string {
	switch t {
	case TaskNone:
		return "NONE"
	case TaskDeleting:
		return "DELETING"
	case TaskRebooting:
		return "REBOOTING"
	case TaskResizing:
		return "RESIZING"
	case TaskBuilding:
		return "BUILDING"
	case TaskMigrating:
		return "MIGRATING"
	case TaskRestartRequired:
		return "RESTART_REQUIRED"
	case TaskPromoting:
		return "PROMOTING"
	case TaskEjecting:
		return "EJECTING"
	case TaskDetaching:
		return "DETACHING"
	case TaskUpdating:
		return "UPDATING"
	case TaskUpgrading:
		return "UPGRADING"
	}
	return failedAction(t)
}

// failedAction returns the word for a mark of failure: that of what failed.
func failedAction(t Task) string {
	switch t {
	case TaskPromotionError:
		return "PROMOTING"
	case TaskEjectionError:
		return "EJECTING"
	case TaskUpdatingErrorAccess:
		return "UPDATING"
	case TaskGuestRevoked:
		return "NONE"
	}
	return "BUILDING"
}

// ServerStatus is the state of an instance's machine in Nova's words.
type ServerStatus string

// The states that have a meaning for an instance's status. ServerNone is a machine that is not there yet.
const (
	ServerNone         ServerStatus = ""
	ServerBuild        ServerStatus = "BUILD"
	ServerActive       ServerStatus = "ACTIVE"
	ServerReboot       ServerStatus = "REBOOT"
	ServerResize       ServerStatus = "RESIZE"
	ServerVerifyResize ServerStatus = "VERIFY_RESIZE"
	ServerShutdown     ServerStatus = "SHUTDOWN"
	ServerShutoff      ServerStatus = "SHUTOFF"
	ServerDeleted      ServerStatus = "DELETED"
	ServerError        ServerStatus = "ERROR"
)

// ServiceStatus is the state of the database as the guest reports it: Trove's ServiceStatuses by their descriptions, which are also the
// values in heartbeats.
type ServiceStatus string

// The service statuses.
const (
	ServiceRunning         ServiceStatus = "running"
	ServiceBlocked         ServiceStatus = "blocked"
	ServicePaused          ServiceStatus = "paused"
	ServiceShutdown        ServiceStatus = "shutdown"
	ServiceDeleted         ServiceStatus = "deleted"
	ServiceCrashed         ServiceStatus = "crashed"
	ServiceFailed          ServiceStatus = "failed to spawn"
	ServiceBuilding        ServiceStatus = "building"
	ServicePromoting       ServiceStatus = "promoting replica"
	ServiceEjecting        ServiceStatus = "ejecting replica source"
	ServiceUnknown         ServiceStatus = "unknown"
	ServiceNew             ServiceStatus = "new"
	ServiceFailedTimeout   ServiceStatus = "guestagent error"
	ServiceInstanceReady   ServiceStatus = "instance ready"
	ServiceRestartRequired ServiceStatus = "restart required"
	ServiceHealthy         ServiceStatus = "healthy"
	ServiceUpgrading       ServiceStatus = "upgrading"
	ServiceRestarting      ServiceStatus = "restarting"
)

var serviceStatuses = map[ServiceStatus]struct {
	api     string
	allowed bool
}{
	ServiceRunning:         {"ACTIVE", true},
	ServiceBlocked:         {"BLOCKED", true},
	ServicePaused:          {"SHUTDOWN", false},
	ServiceShutdown:        {"SHUTDOWN", true},
	ServiceDeleted:         {"DELETED", false},
	ServiceCrashed:         {"SHUTDOWN", true},
	ServiceFailed:          {"FAILED", false},
	ServiceBuilding:        {"BUILD", false},
	ServicePromoting:       {"PROMOTE", false},
	ServiceEjecting:        {"EJECT", false},
	ServiceUnknown:         {"ERROR", false},
	ServiceNew:             {"NEW", false},
	ServiceFailedTimeout:   {"ERROR", false},
	ServiceInstanceReady:   {"BUILD", false},
	ServiceRestartRequired: {"RESTART_REQUIRED", true},
	ServiceHealthy:         {"HEALTHY", true},
	ServiceUpgrading:       {"UPGRADING", false},
	ServiceRestarting:      {"RESTARTING", false},
}

// Valid reports whether s is one of the known statuses; what a guest sends is checked with it.
func (s ServiceStatus) Valid() bool { _, ok := serviceStatuses[s]; return ok }

// APIStatus returns the word that operating_status shows. An unknown status is ERROR.
func (s ServiceStatus) APIStatus() string {
	if v, ok := serviceStatuses[s]; ok {
		return v.api
	}
	return "ERROR"
}

// ActionAllowed reports whether an instance in this state takes mutating actions.
func (s ServiceStatus) ActionAllowed() bool { return serviceStatuses[s].allowed }

// Answering reports whether the database serves queries in this state.
func (s ServiceStatus) Answering() bool {
	return s == ServiceHealthy || s == ServiceRunning || s == ServiceRestartRequired
}
