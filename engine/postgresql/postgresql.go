// Package postgresql drives a PostgreSQL server inside a guest.
//
// It promises: names and passwords of users cannot change the meaning of a statement; a password reaches the server only as a SCRAM verifier; no client
// is let in before the first start has made every database and user.
//
// The agent's own role is trove_admin, the superuser that the data directory was made with: whoever is root in the guest may log in with it through the
// local socket (peer), and nobody else, whatever its password. So there is no password to keep, and a restored backup of another instance lets the agent
// in. The files that say so lie in the tmpfs and are written anew before each start. The tenant's root is the role postgres, which is no superuser: a
// superuser reads files and runs programs of the guest.
//
// Each database belongs to a role of its own, "owner_of_" and its name, that nobody logs in with. Granting a user all rights on a database makes the user a
// member of that role, and sessions of the user in the database begin as it: what one of the users makes, all of them may use, change and drop.
//
// An Engine keeps no connection and may be used from several goroutines.
package postgresql

import (
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Manager is the driver's name in a datastore version.
const Manager = "postgresql"

const (
	port       = 5432
	adminName  = "trove_admin" // the agent's role
	rootName   = "postgres"    // the tenant's, as in Trove
	adminDB    = "postgres"    // the database that the agent asks in; anybody may connect to it, and make nothing there
	ownerStart = "owner_of_"   // what the names of the roles that own databases begin with

	maxName = 63 // bytes of a name: the server cuts longer ones

	stopTimeout = 2 * time.Minute // writing back a large shared_buffers takes a while
)

// Roles and databases that are not the user's. os_admin and root are reserved as Trove does it.
var (
	reservedUsers     = []string{adminName, rootName, "os_admin", "root"}
	reservedDatabases = []string{adminDB, "template0", "template1"}
)

// Engine is the driver.
type Engine struct {
	log *slog.Logger
	clk clock.Clock

	mu sync.Mutex // one change at a time: looking and acting are two statements
}

var (
	_ engine.Engine          = (*Engine)(nil)
	_ engine.Configurable    = (*Engine)(nil)
	_ engine.DriftSource     = (*Engine)(nil)
	_ engine.LogSource       = (*Engine)(nil)
	_ engine.TLSSource       = (*Engine)(nil)
	_ engine.Certified       = (*Engine)(nil)
	_ engine.VersionedRules  = (*Engine)(nil)
	_ engine.MetricSource    = (*Engine)(nil)
	_ engine.StatementSource = (*Engine)(nil)
	_ engine.Upgrader        = (*Engine)(nil)
)

// New returns the driver.
func New(log *slog.Logger, clk clock.Clock) *Engine { return &Engine{log: log, clk: clk} }

// Info returns the facts.
func (*Engine) Info() engine.Info {
	return engine.Info{
		Manager: Manager, RootName: rootName, User: "postgres", StopTimeout: stopTimeout,
		StopSignal: syscall.SIGINT, // a fast shutdown; SIGTERM would wait for clients to leave

		Capabilities: trove.Capabilities{
			Port: port, Volume: true, Databases: true, Users: true, Root: true, RootName: rootName,
			ReservedUsers:     append([]string(nil), reservedUsers...),
			ReservedDatabases: append([]string(nil), reservedDatabases...),
			MaxUserName:       maxName, MaxDatabaseName: maxName - len(ownerStart),
			Client: []string{"psql"},
		},
	}
}

// place names the driver's files in a guest.
type place struct{ engine.Layout }

// On the volume. These directories belong to the engine's account, what they are in to root: the account cannot put a link in their place.
func (p place) dataDir() string { return filepath.Join(p.Data, "pgsql") }
func (p place) newDir() string  { return filepath.Join(p.Data, "pgsql.new") } // being made, by Initialise or Upgrade
func (p place) oldDir() string  { return filepath.Join(p.Data, "pgsql.old") } // replaced by Upgrade, being removed
func (p place) workDir() string { return filepath.Join(p.Data, "pgsql-upgrade") }
func (p place) logDir() string  { return filepath.Join(p.Data, "pgsql-log") }
func (p place) logFile() string { return filepath.Join(p.logDir(), logFileName) }

// In the agent's own directory: what must survive a boot.
func (p place) stateDir() string     { return filepath.Join(p.State, "postgresql") }
func (p place) settingsFile() string { return filepath.Join(p.stateDir(), "settings.json") }

// In the tmpfs. The directory is root's, its files are the engine's to read; only run is the engine's to write.
func (p place) runtime() string    { return filepath.Join(p.Runtime, "postgresql") }
func (p place) config() string     { return filepath.Join(p.runtime(), "postgresql.conf") }
func (p place) hbaFile() string    { return filepath.Join(p.runtime(), "pg_hba.conf") }
func (p place) identFile() string  { return filepath.Join(p.runtime(), "pg_ident.conf") }
func (p place) started() string    { return filepath.Join(p.runtime(), "started.json") } // the overrides that the server was started with
func (p place) expectFile() string { return filepath.Join(p.runtime(), "expect.json") }
func (p place) runDir() string     { return filepath.Join(p.runtime(), "run") }

func (p place) tls() guestfiles.TLSFiles {
	return guestfiles.TLSFiles{Runtime: p.runtime(), Kept: p.stateDir(), UID: p.UID, GID: p.GID}
}

const logFileName = "postgresql.log"
