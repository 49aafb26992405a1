// Package engine is the port to a database server inside a guest.
//
// A driver knows one product: how its data directory is made, how the server is started and asked, its users, databases, grants and
// settings. It does not supervise: the guest agent starts the process that Command describes and watches it. Methods that talk to
// the server need it to be up and return a trove.Error of kind Unavailable while it is not; every other error of kind BadRequest, NotFound or
// Conflict is for the user. All methods may be repeated: creating what is there with the same properties, and removing what is gone, follow
// the contract of each. A driver may be used from several goroutines.
//
// Drivers: mariadb, redis, valkey, fake. enginetest is the suite that each must pass.
package engine

import (
	"context"
	"encoding/json"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Engine is one database product.
type Engine interface {
	// Info returns the facts that the control plane needs, as data of a datastore version.
	Info() Info

	// Initialise makes an empty data directory in the state's DataDir: the slow way, used when the golden image is built and when a volume
	// comes without data. It starts the server if the product needs that, stops it cleanly and leaves no password, key or identity behind.
	// On a directory that is initialised it does nothing.
	Initialise(ctx context.Context, l Layout) error
	// Initialised reports whether the data directory holds a database.
	Initialised(l Layout) (bool, error)

	// Prepare writes everything that the server needs to start for the first time with its own identity: settings, TLS key and certificate,
	// the administrator's account that the agent uses, hashed passwords. The next start applies it before the first connection is served.
	// Called again before that start it replaces what was written.
	Prepare(ctx context.Context, l Layout, p Preparation) error
	// Configure writes the settings files for the resources and overrides; they take effect at the next start.
	Configure(ctx context.Context, l Layout, s Settings) error

	// Command returns how the server is started. It is called before every start, first or not: it makes anew what the server needs in Runtime, which
	// is empty after each boot of the guest, from what Prepare and Configure kept in State. Apart from that it has no effect.
	Command(l Layout) (Command, error)
	// Ready is called after the server said that it is ready, before it is called up: it logs in and removes what only the start needed.
	// An error means that the instance is not usable.
	Ready(ctx context.Context, l Layout) error
	// Ping asks a query and returns nil if it was answered.
	Ping(ctx context.Context, l Layout) error

	Databases(ctx context.Context, l Layout) ([]trove.Database, error) // ordered by name, without the product's own
	// CreateDatabase is Conflict if the database is there.
	CreateDatabase(ctx context.Context, l Layout, d trove.Database) error
	// DropDatabase is NotFound if it is gone.
	DropDatabase(ctx context.Context, l Layout, name string) error

	Users(ctx context.Context, l Layout) ([]trove.User, error) // ordered by name and host, without the product's own, with their databases
	// CreateUser makes a user who may log in over TCP and grants it all rights on the listed databases; Conflict if it is there.
	CreateUser(ctx context.Context, l Layout, u trove.User) error
	// DropUser is NotFound if it is gone.
	DropUser(ctx context.Context, l Layout, name, host string) error
	// UpdateUser changes name, host or password, whichever is not nil, at once or not at all. NotFound, or Conflict when the new name is taken.
	UpdateUser(ctx context.Context, l Layout, name, host string, change UserChange) error
	// Grant gives a user all rights on databases; NotFound if the user is gone. A right that is there stays.
	Grant(ctx context.Context, l Layout, name, host string, databases []string) error
	// Revoke takes them; NotFound if the user or its right is gone.
	Revoke(ctx context.Context, l Layout, name, host string, database string) error

	// EnableRoot lets the superuser log in from outside with the password. DisableRoot forbids it. Both may be repeated.
	EnableRoot(ctx context.Context, l Layout, password trove.Secret) error
	DisableRoot(ctx context.Context, l Layout) error
	RootEnabled(ctx context.Context, l Layout) (bool, error)
}

// LogSource is an engine with logs that can be shown. It is optional.
type LogSource interface {
	// Logs returns the logs, ordered by name. It does not ask the server, which may be down.
	Logs(ctx context.Context, l Layout) ([]Log, error)
	// SetLog switches a log on or off, for the running server and for later starts. NotFound if there is none of the name, BadRequest if it is always on.
	SetLog(ctx context.Context, l Layout, name string, on bool) error
}

// LogKeeper is a LogSource whose server keeps a log in its memory alone: somebody has to fetch it. It is optional.
type LogKeeper interface {
	// KeepLogs appends what is new in the server's memory to the files of those logs that are switched on. It is to be called now and then, and before
	// such a log is read. What the server has forgotten in between is lost, and the file says so. Unavailable while the server is down.
	KeepLogs(ctx context.Context, l Layout) error
}

// Log is a text file that the server, or KeepLogs, appends lines to.
type Log struct {
	Name    string
	System  bool // always on: it cannot be switched
	Enabled bool
	Path    string // the file, which need not be there
}

// Info are the facts about an engine.
type Info struct {
	Manager      string // the driver's name
	RootName     string // the superuser's name: "root"
	Capabilities trove.Capabilities
	User         string // the account inside the image that the server runs as
	// StopTimeout is how long a clean stop may take before the server is killed. Data is safe either way.
	StopTimeout time.Duration
	// StopSignal asks the server for a clean stop; 0: SIGTERM. It may be sent more than once.
	StopSignal syscall.Signal
}

// Layout is where things are in this guest. Paths are absolute.
type Layout struct {
	Root    string // prefix of the product's programs, "" or "/": the guest's own root
	Data    string // the data volume's mount point; the data directory is below it
	Runtime string // tmpfs for sockets and secrets: 0711, files in it belong to the engine's account
	State   string // the agent's own directory on the data volume, 0700: what must survive a restart
	UID     int    // of the engine's account
	GID     int
	Address string // the address to listen on, "" for all
}

// Preparation is what the server gets before its first start.
type Preparation struct {
	InstanceID string
	ServerID   uint32
	Settings   Settings
	// AdminPassword is for the agent's own account, which can log in through the local socket only.
	AdminPassword trove.Secret
	RootPassword  trove.Secret // not "": root is enabled from the start
	Databases     []trove.Database
	Users         []trove.User
	TLSCert       []byte // PEM; nil: the driver makes a self-signed one
	TLSKey        []byte
	Adopted       bool // the data were another Trove's: its own accounts go
}

// Settings are what the server's configuration is derived from.
type Settings struct {
	ServerID  uint32                     `json:"server_id"`
	RAM       int                        `json:"ram"`   // MiB, the flavor's
	VCPUs     int                        `json:"vcpus"` // the flavor's
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
}

// UserChange is what UpdateUser changes; nil keeps.
type UserChange struct {
	Name     *string
	Host     *string
	Password *trove.Secret
}

// Command is how a server process is started. No secret may be in it.
type Command struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	UID  int
	GID  int
	// Notify says that the server announces its readiness by sd_notify; otherwise the agent pings until it answers.
	Notify bool
	// LogFile is where the server writes its errors; its last lines are the evidence after a crash. "": the standard error output.
	LogFile string
}
