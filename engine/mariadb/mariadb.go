// Package mariadb drives a MariaDB server inside a guest.
//
// It promises: names and passwords of users cannot change the meaning of a statement; a password reaches the server only as its hash; the first
// start has every database and user before a connection is served, and Ready proves it.
//
// The agent's own account is root@localhost by unix_socket: whoever is root in the guest may log in through the local socket and nobody else.
// So there is no password to keep, a restored backup of another instance lets the agent in, and each start mends the account (the init file), should
// a tenant with root rights have spoilt it. The tenant's root is root@'%', another account.
//
// An Engine keeps no connection and may be used from several goroutines.
package mariadb

import (
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Manager is the driver's name in a datastore version.
const Manager = "mariadb"

const (
	port      = 3306
	rootName  = "root"
	adminHost = "localhost"
	anyHost   = "%"

	maxName     = 64 // characters of a database's name
	maxUserName = 80 // characters of a user's name
	maxHost     = 60 // characters of a host pattern

	stopTimeout = 2 * time.Minute // writing back a large buffer pool takes a while
)

// Accounts and databases that are not the user's. trove_admin and os_admin are reserved as other versions of Trove make them.
var (
	reservedUsers     = []string{"root", "mariadb.sys", "mysql", "trove_admin", "os_admin"}
	reservedDatabases = []string{"mysql", "information_schema", "performance_schema", "sys", "#mysql50#lost+found", "lost+found"}
)

// Engine is the driver.
type Engine struct {
	log *slog.Logger
	clk clock.Clock

	mu sync.Mutex // one change at a time: looking and acting are two statements
}

var (
	_ engine.Engine    = (*Engine)(nil)
	_ engine.LogSource = (*Engine)(nil)

	_ engine.Configurable = (*Engine)(nil)
)

// New returns the driver.
func New(log *slog.Logger, clk clock.Clock) *Engine { return &Engine{log: log, clk: clk} }

// Info returns the facts.
func (*Engine) Info() engine.Info {
	return engine.Info{
		Manager: Manager, RootName: rootName, User: "mysql", StopTimeout: stopTimeout,
		Capabilities: trove.Capabilities{
			Port: port, Volume: true, Databases: true, Users: true, Root: true, UserHosts: true,
			ReservedUsers:     append([]string(nil), reservedUsers...),
			ReservedDatabases: append([]string(nil), reservedDatabases...),
			MaxUserName:       maxUserName, MaxDatabaseName: maxName,
			Client: []string{"mariadb"},
		},
	}
}

// place names the driver's files in a guest.
type place struct{ engine.Layout }

// On the volume. These directories belong to the engine's account, what they are in to root: the account cannot put a link in their place.
func (p place) dataDir() string    { return filepath.Join(p.Data, "mysql") }
func (p place) logDir() string     { return filepath.Join(p.Data, "mysql-log") }
func (p place) tmpDir() string     { return filepath.Join(p.Data, "mysql-tmp") }   // not the tmpfs: sorting large tables must not eat memory
func (p place) filesDir() string   { return filepath.Join(p.Data, "mysql-files") } // the one place for LOAD DATA and INTO OUTFILE
func (p place) errorLog() string   { return filepath.Join(p.logDir(), "error.log") }
func (p place) generalLog() string { return filepath.Join(p.logDir(), "general.log") }
func (p place) slowLog() string    { return filepath.Join(p.logDir(), "slow.log") }

// In the agent's own directory: what must survive a boot.
func (p place) stateDir() string     { return filepath.Join(p.State, "mariadb") }
func (p place) settingsFile() string { return filepath.Join(p.stateDir(), "settings.json") }
func (p place) keptCert() string     { return filepath.Join(p.stateDir(), "tls.crt") }
func (p place) keptKey() string      { return filepath.Join(p.stateDir(), "tls.key") }

// In the tmpfs. The directory is root's, its files are the engine's to read; only run is the engine's to write.
func (p place) runtime() string    { return filepath.Join(p.Runtime, "mariadb") }
func (p place) config() string     { return filepath.Join(p.runtime(), "my.cnf") }
func (p place) trial() string      { return filepath.Join(p.runtime(), "trial.cnf") }
func (p place) started() string    { return filepath.Join(p.runtime(), "started.json") } // the overrides that the server was started with
func (p place) initFile() string   { return filepath.Join(p.runtime(), "init.sql") }
func (p place) expectFile() string { return filepath.Join(p.runtime(), "expect.json") }
func (p place) cert() string       { return filepath.Join(p.runtime(), "tls.crt") }
func (p place) key() string        { return filepath.Join(p.runtime(), "tls.key") }
func (p place) runDir() string     { return filepath.Join(p.runtime(), "run") }
func (p place) socket() string     { return filepath.Join(p.runDir(), "mariadb.sock") }
func (p place) pidFile() string    { return filepath.Join(p.runDir(), "mariadbd.pid") }

// program returns the path of one of the product's programs.
func (p place) program(path string) string { return filepath.Join("/", p.Root, path) }
