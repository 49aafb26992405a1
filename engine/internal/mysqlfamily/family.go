// Package mysqlfamily drives the servers that go back to MySQL, inside a guest. The drivers mariadb and mysql are this one with a Product each: what
// differs between the two is data there, and the rest is here once.
//
// It promises: names and passwords of users cannot change the meaning of a statement; a password reaches the server only as its hash; the first
// start has every database and user before a connection is served, and Ready proves it.
//
// The agent's own account is root@localhost by the socket's plugin: whoever is root in the guest may log in through the local socket and nobody else.
// So there is no password to keep, a restored backup of another instance lets the agent in, and each start mends the account (the init file), should
// a tenant with root rights have spoilt it. The tenant's root is root@'%', another account.
//
// An Engine keeps no connection and may be used from several goroutines.
package mysqlfamily

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	port      = 3306
	rootName  = "root"
	adminHost = "localhost"
	anyHost   = "%"

	maxName = 64 // characters of a database's name

	stopTimeout = 2 * time.Minute // writing back a large buffer pool takes a while
)

var reservedDatabases = []string{"mysql", "information_schema", "performance_schema", "sys", "#mysql50#lost+found", "lost+found"}

// Product is what differs between the products: data, and functions that keep nothing.
type Product struct {
	Manager       string   // the driver's name; directories of its own have it too
	Client        []string // programs of users
	Server        string   // the server's program, below the root
	Group         string   // the server's part of an options file
	Args          []string // of the server, beside that file
	OwnUsers      []string // the product's own accounts, all @localhost, beside root
	ReservedUsers []string // names that are not the user's; these and root
	MaxUserName   int      // characters
	MaxHost       int

	Rules   engine.Rules
	Derived func(ram int) []Option // options that follow from the machine's memory in MiB; an override replaces them
	Fixed   func(p Place) []Option // options that no override changes, beside those of all products
	Shown   []Option               // those of Fixed that tell a user something
	// Forbidden are options that an override must not name: those of Fixed, and those that load code, read other files or change who may do what.
	Forbidden []string
	// Variables are parameters that are no options of the program: each start sets them by a statement, from the init file. As an option some would
	// be taken for the beginning of another one: character_set_client for character_set_client_handshake.
	Variables []string
	// StartsOnly are variables that can be set while the server runs, but not to every value that it could start with.
	StartsOnly []string
	// Session is set in each session of the agent: users may set the global variables, and its statements must not end or wait for ever by them.
	Session map[string]string

	// SystemTables is the program, below the root, that makes the system tables in an empty directory.
	SystemTables func(p Place, dir string) (program string, args []string)
	// UpgradeProgram, below the root, mends the system tables after a change of version; "": the server does that when it starts.
	UpgradeProgram string
	OnceArgs       []string // of the server's one start on a new data directory
	Leftovers      []string // patterns of files that this start leaves and that each start makes again
	// BeforeStart makes further files that the server reads in the tmpfs; nil: there are none.
	BeforeStart func(p Place) error
	TrialArgs   func(dir string) []string // let the program read its options without serving
	Complaint   *regexp.Regexp            // finds what a trial says against an option

	Hash       func(password trove.Secret) (string, error) // what the server keeps of a password
	Identified func(hash string) string                    // the clause of CREATE and ALTER USER for it
	BySocket   string                                      // the same for the agent's account
	// Restored is the clause for what Auth has read; false if its form is unknown.
	Restored        func(plugin, auth string) (clause string, ok bool)
	CreateOrReplace bool // the product has CREATE OR REPLACE USER
	SQL             Queries

	// ReadVariables looks global variables up by name, in small letters; those that the server does not know are left out.
	ReadVariables func(ctx context.Context, db *sql.Conn, names []string) (map[string]Variable, error)
	TLSOff        Option
	ReloadTLS     string // the statement that makes the server read its certificate anew
	// ForceTLS is the statement that does so although the server found the certificate to be of an authority that it does not know, which Unproven is in its
	// words; "": it does not look.
	ForceTLS string
	Unproven string
	// InitLines are a statement as lines of the init file; nil: each is one.
	InitLines func(statement string) []string
	// LiveCA is the statement, for the path of the authorities in place of ?, that changes them before ReloadTLS; "": that needs a restart.
	LiveCA string
}

// Queries are those that differ.
type Queries struct {
	Accounts string // user and host of all accounts that are no roles
	Auth     string // plugin and what it keeps, of the account with a user and a host
	Unproven string // user and host of accounts that need not show a certificate; those @localhost are not among them
	Proven   string // the same of those that must, by no rule but X509
	Drifted  string // name, in small letters, type and value of the global variables that were set while the server runs, ordered by name
	TLS      string // whether TLS is on, as 0 or 1, and the file of the authorities, "" without
}

// Engine is a driver.
type Engine struct {
	product *Product
	log     *slog.Logger
	clk     clock.Clock

	mu sync.Mutex // one change at a time: looking and acting are two statements
}

var (
	_ engine.Engine         = (*Engine)(nil)
	_ engine.LogSource      = (*Engine)(nil)
	_ engine.Configurable   = (*Engine)(nil)
	_ engine.VersionedRules = (*Engine)(nil)
)

// New returns the driver for a product.
func New(p *Product, log *slog.Logger, clk clock.Clock) *Engine {
	return &Engine{product: p, log: log, clk: clk}
}

// Info returns the facts.
func (e *Engine) Info() engine.Info {
	return engine.Info{
		Manager: e.product.Manager, RootName: rootName, User: "mysql", StopTimeout: stopTimeout,
		Capabilities: trove.Capabilities{
			Port: port, Volume: true, Databases: true, Users: true, Root: true, UserHosts: true,
			ReservedUsers:     append([]string{rootName}, e.product.ReservedUsers...),
			ReservedDatabases: slices.Clone(reservedDatabases),
			MaxUserName:       e.product.MaxUserName, MaxDatabaseName: maxName,
			Client: slices.Clone(e.product.Client),
		},
	}
}

// reserved reports whether a user's name is not the user's. trove_admin and os_admin are, as other versions of Trove make them.
func (p *Product) reserved(name string) bool {
	return name == rootName || slices.Contains(p.ReservedUsers, name)
}

// Place names the driver's files in a guest.
type Place struct {
	engine.Layout
	product *Product
}

// Place returns where things are in a guest.
func (e *Engine) Place(l engine.Layout) Place { return Place{Layout: l, product: e.product} }

// DataDir and the others are on the volume. These directories belong to the engine's account, what they are in to root: the account cannot put a link in
// their place.
func (p Place) DataDir() string    { return filepath.Join(p.Data, "mysql") }
func (p Place) logDir() string     { return filepath.Join(p.Data, "mysql-log") }
func (p Place) filesDir() string   { return filepath.Join(p.Data, "mysql-files") } // the one place for LOAD DATA and INTO OUTFILE
func (p Place) errorLog() string   { return filepath.Join(p.logDir(), "error.log") }
func (p Place) generalLog() string { return filepath.Join(p.logDir(), "general.log") }
func (p Place) slowLog() string    { return filepath.Join(p.logDir(), "slow.log") }

// TmpDir is not in the tmpfs: sorting large tables must not eat memory.
func (p Place) TmpDir() string { return filepath.Join(p.Data, "mysql-tmp") }

// In the agent's own directory: what must survive a boot.
func (p Place) stateDir() string     { return filepath.Join(p.State, p.product.Manager) }
func (p Place) settingsFile() string { return filepath.Join(p.stateDir(), "settings.json") }

// RuntimeDir is in the tmpfs. It is root's, its files are the engine's to read; only run is the engine's to write.
func (p Place) RuntimeDir() string { return filepath.Join(p.Runtime, p.product.Manager) }
func (p Place) config() string     { return filepath.Join(p.RuntimeDir(), "my.cnf") }
func (p Place) trial() string      { return filepath.Join(p.RuntimeDir(), "trial.cnf") }
func (p Place) started() string    { return filepath.Join(p.RuntimeDir(), "started.json") } // the overrides that the server was started with
func (p Place) initFile() string   { return filepath.Join(p.RuntimeDir(), "init.sql") }
func (p Place) expectFile() string { return filepath.Join(p.RuntimeDir(), "expect.json") }
func (p Place) runDir() string     { return filepath.Join(p.RuntimeDir(), "run") }

func (p Place) tls() guestfiles.TLSFiles {
	return guestfiles.TLSFiles{Runtime: p.RuntimeDir(), Kept: p.stateDir(), UID: p.UID, GID: p.GID}
}

// Socket is where the server listens for the agent.
func (p Place) Socket() string { return filepath.Join(p.runDir(), p.product.Manager+".sock") }

// PIDFile is the server's.
func (p Place) PIDFile() string {
	return filepath.Join(p.runDir(), filepath.Base(p.product.Server)+".pid")
}

// Program returns the path of one of the product's programs, given below the root.
func (p Place) Program(path string) string { return filepath.Join("/", p.Root, path) }
