package trove

// Datastore is a kind of database that users can choose, such as "mariadb".
type Datastore struct {
	ID               string
	Name             string
	DefaultVersionID string // "" when no default is set
}

// DatastoreVersion is one version of a datastore. Everything that the control plane must know of an engine is data of its versions; no code
// outside the guest switches on an engine's name.
type DatastoreVersion struct {
	ID            string
	DatastoreID   string
	DatastoreName string // read joined
	Name          string
	Version       string // the version number, Name unless given
	Manager       string // the engine driver in the guest
	ImageID       string
	ImageTags     []string
	Active        bool
	RequireTLS    bool // databases of it let nobody in without TLS
	Packages      []string
	Capabilities  Capabilities
	FlavorIDs     []string // allowed flavors; empty: all
	VolumeTypes   []string // allowed volume types; empty: all
}

// Capabilities are an engine's abilities and facts, loaded with the datastore version from the driver.
type Capabilities struct {
	Port              int      `json:"port"`                // the TCP port that clients connect to
	TLSPort           int      `json:"tls_port,omitempty"`  // the TCP port for TLS, where the engine needs one of its own
	Volume            bool     `json:"volume"`              // data lives on a volume of its own
	Databases         bool     `json:"databases"`           // has named databases
	Users             bool     `json:"users"`               // has users that are managed through the API
	Root              bool     `json:"root"`                // root can be enabled
	RootName          string   `json:"root_name,omitempty"` // the superuser's name; "": root
	Replication       bool     `json:"replication"`         // instances can be replicas of others
	Clusters          bool     `json:"clusters,omitempty"`  // instances can form a cluster
	UserHosts         bool     `json:"user_hosts"`          // users are bound to hosts (name@host)
	ReservedUsers     []string `json:"reserved_users"`      // names that the API refuses
	ReservedDatabases []string `json:"reserved_databases"`  // names that the API refuses and never lists
	MaxUserName       int      `json:"max_user_name"`       // characters
	MaxDatabaseName   int      `json:"max_database_name"`   // characters
	Client            []string `json:"client"`              // the engine's own client, for `trove instance connect`
	// CharacterSets are the character sets that the API accepts, with their collations; empty: the engine alone decides.
	CharacterSets map[string][]string `json:"character_sets,omitempty"`
}

// Ports are the TCP ports that clients may connect to.
func (c Capabilities) Ports() []int {
	if c.TLSPort == 0 {
		return []int{c.Port}
	}
	return []int{c.Port, c.TLSPort}
}

// Flavor is a size of machine.
type Flavor struct {
	ID    string
	Name  string
	RAM   int // MiB
	VCPUs int
	Disk  int // GiB, ephemeral; 0 where data is on a volume

	IOPS      int `json:",omitempty"` // reads, and as many writes, a second on the data volume; 0: no limit
	Bandwidth int `json:",omitempty"` // MiB read, and as many written, a second on the data volume; 0: no limit
}

// Database is a named database inside an instance.
type Database struct {
	Name         string `json:"name"`
	CharacterSet string `json:"character_set,omitempty"`
	Collate      string `json:"collate,omitempty"`
}

// User is a user of the database engine. Password is only set on the way in.
type User struct {
	Name      string   `json:"name"`
	Host      string   `json:"host,omitempty"` // "%" when it was not given
	Password  Secret   `json:"-"`
	Databases []string `json:"databases,omitempty"` // names of the databases that the user may use
}

// Quota is how much of a resource a project may use and uses.
type Quota struct {
	Resource string // QuotaInstances, QuotaRAM, QuotaVolumes, QuotaBackups
	Limit    int    // -1: unlimited
	InUse    int
	Reserved int
}

// The resources with a quota.
const (
	QuotaInstances = "instances"
	QuotaRAM       = "ram"     // MiB
	QuotaVolumes   = "volumes" // GiB
	QuotaBackups   = "backups"
)
