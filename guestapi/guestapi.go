// Package guestapi is what controllers and guests say to each other over the bus: subjects, versioned commands and reports, and the typed
// caller.
//
// A command never stays open for long. Short commands (lists, users, databases) are answered with their result. Long ones (prepare, restart) are
// given with Start, which is answered at once with the state that the operation has in the guest's journal; giving the same
// operation id again is harmless. The end comes as a report, and Status asks for it, so a lost message costs time and nothing else.
//
// Version rule: a controller speaks with agents one release older and one newer, and an agent with such controllers. Therefore
//   - a field is only added, never renamed, removed or given another meaning; who does not know it ignores it, and a missing one is its zero value;
//   - a command keeps its name and what it does for ever; one that is not among the first ones (client.go lists them) is sent only to an agent
//     that lists it when asked, and the error otherwise says that the agent is to be upgraded;
//   - a new kind of report is ignored by a conductor that does not know it, and nothing may depend on its having been read;
//   - an envelope of another version than Version is refused with a sentence; a change that needs one takes two releases, the first of which reads both.
//
// testdata/ has what the first release said and heard, byte for byte, and a test holds every later one to it. Values may be used from several
// goroutines.
package guestapi

import (
	"encoding/json"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Version is the version of the envelope.
const Version = 1

// Subjects of one guest; instance ids must pass trove.ValidID.
const subjectPrefix = "trove.v1.guest."

// CommandSubject is where a guest listens.
func CommandSubject(instance string) string { return subjectPrefix + instance + ".cmd" }

// ReportSubject is where a guest publishes reports of a kind.
func ReportSubject(instance string, k ReportKind) string {
	return subjectPrefix + instance + ".up." + string(k)
}

// AllReports is what conductors subscribe to, in queue group QueueConductor.
const AllReports = subjectPrefix + "*.up.*"

// Subjects among controllers.
const (
	QueueConductor = "conductor"
	WakeSubject    = "trove.v1.ctl.wake"
	AccountSubject = "trove.v1.ctl.account"
)

// Command is the name of what a guest shall do.
type Command string

// The long commands, given with an operation id and answered at once.
const (
	CmdPrepare   Command = "prepare"   // PrepareArgs
	CmdRestart   Command = "restart"   // no arguments
	CmdConfigure Command = "configure" // ConfigureArgs: new resources or overrides, with a restart of the engine if asked for
	CmdStop      Command = "stop"      // stop the engine cleanly and keep it stopped
	CmdGrow      Command = "grow"      // GrowArgs: make the file system fill the volume

	CmdUpgradeAgent Command = "upgrade-agent" // UpgradeAgentArgs: put another release of the agent in the place of the one that runs
)

// The short commands, answered with their result.
const (
	CmdStatus         Command = "status"          // StatusArgs → OperationStatus: asks after a long command
	CmdPing           Command = "ping"            // → Hello
	CmdListDatabases  Command = "list-databases"  // → []trove.Database
	CmdCreateDatabase Command = "create-database" // []trove.Database
	CmdDropDatabase   Command = "drop-database"   // NameArgs
	CmdListUsers      Command = "list-users"      // → []trove.User
	CmdCreateUser     Command = "create-user"     // []UserArgs
	CmdDropUser       Command = "drop-user"       // UserRef
	CmdUpdateUser     Command = "update-user"     // UpdateUserArgs
	CmdGrant          Command = "grant"           // GrantArgs
	CmdRevoke         Command = "revoke"          // GrantArgs with one database
	CmdEnableRoot     Command = "enable-root"     // RootArgs
	CmdDisableRoot    Command = "disable-root"    // no arguments
	CmdRootEnabled    Command = "root-enabled"    // → bool
	CmdVolume         Command = "volume"          // → VolumeUsage
	CmdRenewIdentity  Command = "renew-identity"  // bus.Credential
)

// Request is the envelope of a command.
type Request struct {
	V         int             `json:"v"`
	ID        string          `json:"id"` // the operation id of a long command; any unique id for a short one
	Command   Command         `json:"command"`
	Args      json.RawMessage `json:"args,omitempty"`
	RequestID string          `json:"req,omitempty"` // of the API call, for the guest's log
}

// Response is the envelope of the answer.
type Response struct {
	V      int             `json:"v"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Failure        `json:"error,omitempty"`
}

// Failure is an error of the guest, with the kind that the caller's error gets.
type Failure struct {
	Kind    trove.Kind `json:"kind"`
	Message string     `json:"message"`
}

// OperationState is where a long command stands in the guest's journal.
type OperationState string

// The states of a long command. Unknown means that the guest has not seen it yet (or lost its journal with its volume): give it again, or withdraw it, for it
// may be on its way.
const (
	StateUnknown OperationState = "unknown"
	StateRunning OperationState = "running"
	StateDone    OperationState = "done"
	StateFailed  OperationState = "failed"
)

// OperationStatus is the answer to Start and Status, and the body of progress and end reports.
type OperationStatus struct {
	ID       string          `json:"id"`
	State    OperationState  `json:"state"`
	Sentence string          `json:"sentence,omitempty"`
	Percent  int             `json:"percent,omitempty"`
	Error    *Failure        `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
}

// ReportKind is the last token of a report's subject.
type ReportKind string

// The kinds of reports.
const (
	ReportHello     ReportKind = "hello"    // Hello, after each connect
	ReportHeartbeat ReportKind = "hb"       // Heartbeat, every 10 s and on each change of the status
	ReportProgress  ReportKind = "progress" // OperationStatus
	ReportEnd       ReportKind = "end"      // OperationStatus, sent again until acknowledged by a status command
)

// Hello is the first report after a connect.
type Hello struct {
	BootID       string    `json:"boot_id"`
	AgentVersion string    `json:"agent_version"`
	Protocol     int       `json:"protocol"`
	Engine       string    `json:"engine"`
	Commands     []Command `json:"commands"`
	Prepared     bool      `json:"prepared"`              // prepare was done at some time
	TakenBack    string    `json:"taken_back,omitempty"`  // version of the release of the agent that was taken back last, and not put in place since
	AgentStart   int64     `json:"agent_start,omitempty"` // names this start of the agent
}

// Heartbeat is the regular report.
type Heartbeat struct {
	BootID       string              `json:"boot_id"`
	Seq          int64               `json:"seq"`
	Service      trove.ServiceStatus `json:"service"`
	AgentVersion string              `json:"agent_version"`
	TakenBack    string              `json:"taken_back,omitempty"`   // as in Hello
	EngineStart  int64               `json:"engine_start,omitempty"` // microseconds
	VolumeUsed   int64               `json:"volume_used"`
	VolumeTotal  int64               `json:"volume_total"`
	Event        string              `json:"event,omitempty"`       // a sentence when something happened: the engine crashed, with the last lines of its log
	EventAt      int64               `json:"event_at,omitempty"`    // names the event, which is sent several times: when it happened, microseconds
	EventKind    string              `json:"event_kind,omitempty"`  // "": the engine failed; else one of GuestEvents
	AgentStart   int64               `json:"agent_start,omitempty"` // names this start of the agent
}

// GuestEvents are the kinds of events that a guest may name.
var GuestEvents = []string{trove.EventConfigurationDrift}

// PrepareArgs are for the first start of the engine. Secrets travel here in clear, inside TLS, to this guest's subject only.
type PrepareArgs struct {
	ServerID     uint32                     `json:"server_id"`
	RAM          int                        `json:"ram"`
	VCPUs        int                        `json:"vcpus"`
	Databases    []trove.Database           `json:"databases,omitempty"`
	Users        []UserArgs                 `json:"users,omitempty"`
	RootPassword string                     `json:"root_password,omitempty"`
	Overrides    map[string]json.RawMessage `json:"overrides,omitempty"`
	Certificate  string                     `json:"certificate,omitempty"` // PEM, for the key that the guest asked for; "": the engine makes its own
	RequireTLS   bool                       `json:"require_tls,omitempty"` // nobody is let in without TLS, from the first start on
	Adopt        bool                       `json:"adopt,omitempty"`       // the volume has the data of a Python Trove, and nothing is made instead of them
}

// UserArgs is a user with its password.
type UserArgs struct {
	Name      string   `json:"name"`
	Host      string   `json:"host,omitempty"`
	Password  string   `json:"password"`
	Databases []string `json:"databases,omitempty"`
}

// ConfigureArgs changes what the engine's settings are derived from.
type ConfigureArgs struct {
	ServerID  uint32                     `json:"server_id"`
	RAM       int                        `json:"ram"`
	VCPUs     int                        `json:"vcpus"`
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
	Restart   bool                       `json:"restart"`
}

// UpgradeAgentArgs says which release of the agent shall run. Manifest and Signature are those of package agentrelease, byte for byte; Grant lets the
// guest read the program, as the object AgentObject(Version).
type UpgradeAgentArgs struct {
	Version   string `json:"version"`
	SHA256    string `json:"sha256"`
	Manifest  []byte `json:"manifest"`
	Signature []byte `json:"signature"`
	Grant     Grant  `json:"grant"`
	// HealthySeconds is how long the new agent may take to show that it is well; 0: 60.
	HealthySeconds int `json:"healthy_seconds,omitempty"`
}

// AgentContainer is the deployment's container that releases of the agent are in, and the first part of their names.
const AgentContainer = "agents"

// AgentPrefix begins the names of the objects of a release of the agent.
func AgentPrefix(version string) string { return AgentContainer + "/" + version + "/" }

// AgentObject is the name of the object that is the program of a release of the agent.
func AgentObject(version string) string { return AgentPrefix(version) + "trove-guestagent" }

// GrowArgs says how large the file system must be at least. 0 asks for nothing: the command only takes its id (Client.Withdraw).
type GrowArgs struct {
	SizeGiB int `json:"size_gib"`
}

// StatusArgs asks after a long command.
type StatusArgs struct {
	ID string `json:"id"`
}

// NameArgs names a database.
type NameArgs struct {
	Name string `json:"name"`
}

// UserRef names a user.
type UserRef struct {
	Name string `json:"name"`
	Host string `json:"host,omitempty"`
}

// UpdateUserArgs changes a user; nil keeps.
type UpdateUserArgs struct {
	UserRef
	NewName     *string `json:"new_name,omitempty"`
	NewHost     *string `json:"new_host,omitempty"`
	NewPassword *string `json:"new_password,omitempty"`
}

// GrantArgs gives or takes rights.
type GrantArgs struct {
	UserRef
	Databases []string `json:"databases"`
}

// RootArgs enables root.
type RootArgs struct {
	Password string `json:"password"`
}

// VolumeUsage is how full the data volume is, in bytes.
type VolumeUsage struct {
	Used  int64 `json:"used"`
	Total int64 `json:"total"`
}

// Grant lets a guest read or write objects of the object gateway: those whose names begin with one prefix, until it expires. It comes with a command,
// and the guest needs no other right for the store behind the gateway. The token is a secret, in clear here because it travels inside a command.
type Grant struct {
	URLs     []string  `json:"urls"`                // base addresses of gateways, any of which will do; verified under the CA bundle of the guest's credential
	Method   string    `json:"method"`              // GET or PUT
	Prefix   string    `json:"prefix"`              // of object names
	MaxBytes int64     `json:"max_bytes,omitempty"` // that may be written with it in all; 0 with GET
	Expires  time.Time `json:"expires"`
	Token    string    `json:"token"`
}
