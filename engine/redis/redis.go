// Package redis drives a Redis or a Valkey server inside a guest: one driver, two products, which differ in data alone.
//
// It promises: a password reaches the server only as its SHA-256 hash; the first start has every user before a connection is served; no user of a tenant
// may call a command that harms the guest or reaches beyond it.
//
// The agent's own account is an ACL user that comes through the local socket. Its password is kept in the agent's directory, as neither product knows a
// user by the account of the operating system. No tenant may change users, root neither; each start mends the account all the same, so that a restored
// backup of another instance lets the agent in.
//
// An Engine keeps no connection and may be used from several goroutines.
package redis

import (
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
)

// The drivers' names in a datastore version.
const (
	ManagerRedis  = "redis"
	ManagerValkey = "valkey"
)

const (
	port      = 6379 // without TLS
	tlsPort   = 6380 // a server cannot speak both on one port
	rootName  = "default"
	adminName = "trove_admin"
	anyHost   = "%"

	maxUserName = 64 // characters; the server has no limit

	stopTimeout = 2 * time.Minute // a snapshot of a large data set may be written
)

// reservedUsers are not the tenant's.
var reservedUsers = []string{rootName, adminName, "os_admin"} // os_admin as other versions of Trove make it

// product is what the two differ in.
type product struct {
	manager string
	title   string // for people
	server  string // the program
	account string
	client  string
	number  string   // the field of INFO that has the version
	reads   []string // commands beyond those of both that look and change nothing
}

var (
	redisProduct = product{
		manager: ManagerRedis, title: "Redis", server: "usr/bin/redis-server", account: "redis", client: "redis-cli", number: "redis_version",
	}
	valkeyProduct = product{
		manager: ManagerValkey, title: "Valkey", server: "usr/bin/valkey-server", account: "valkey", client: "valkey-cli", number: "valkey_version",
		reads: []string{"commandlog|get", "commandlog|len"},
	}
)

// Engine is the driver.
type Engine struct {
	product product
	log     *slog.Logger
	clk     clock.Clock

	slow sync.Mutex // the log of slow commands; taken before mu
	mu   sync.Mutex // one change at a time: looking and acting are two commands
}

var (
	_ engine.Engine          = (*Engine)(nil)
	_ engine.Configurable    = (*Engine)(nil)
	_ engine.DriftSource     = (*Engine)(nil)
	_ engine.LogSource       = (*Engine)(nil)
	_ engine.LogKeeper       = (*Engine)(nil)
	_ engine.TLSSource       = (*Engine)(nil)
	_ engine.Certified       = (*Engine)(nil)
	_ engine.MetricSource    = (*Engine)(nil)
	_ engine.StatementSource = (*Engine)(nil)
	_ engine.Upgrader        = (*Engine)(nil)
)

// New returns the driver of Redis.
func New(log *slog.Logger, clk clock.Clock) *Engine {
	return &Engine{product: redisProduct, log: log, clk: clk}
}

// NewValkey returns the driver of Valkey.
func NewValkey(log *slog.Logger, clk clock.Clock) *Engine {
	return &Engine{product: valkeyProduct, log: log, clk: clk}
}

// Info returns the facts.
func (e *Engine) Info() engine.Info {
	return engine.Info{
		Manager: e.product.manager, RootName: rootName, User: e.product.account, StopTimeout: stopTimeout,
		Capabilities: trove.Capabilities{
			Port: port, TLSPort: tlsPort, Volume: true, Users: true, Root: true, RootName: rootName,
			ReservedUsers: append([]string(nil), reservedUsers...), MaxUserName: maxUserName,
			Client: []string{e.product.client},
		},
	}
}

// place names the driver's files in a guest.
type place struct {
	engine.Layout
	product product
}

func (e *Engine) at(l engine.Layout) place { return place{l, e.product} }

// On the volume. These directories belong to the engine's account, what they are in to root: the account cannot put a link in their place.
func (p place) dataDir() string   { return filepath.Join(p.Data, p.product.manager) }
func (p place) usersFile() string { return filepath.Join(p.dataDir(), "users.acl") }
func (p place) logDir() string    { return filepath.Join(p.Data, p.product.manager+"-log") }
func (p place) logFile() string   { return filepath.Join(p.logDir(), p.product.manager+".log") }

// In the agent's own directory: what must survive a boot.
func (p place) stateDir() string     { return filepath.Join(p.State, p.product.manager) }
func (p place) settingsFile() string { return filepath.Join(p.stateDir(), "settings.json") }

// In the tmpfs. The directory is root's, its files are the engine's to read; only run is the engine's to write.
func (p place) runtime() string { return filepath.Join(p.Runtime, p.product.manager) }
func (p place) config() string  { return filepath.Join(p.runtime(), "server.conf") }
func (p place) started() string { return filepath.Join(p.runtime(), "started.json") } // the overrides that the server was started with

// given is how the server wrote what it was given; Command forgets it.
func (p place) given() guestfiles.Given {
	return guestfiles.Given(filepath.Join(p.runtime(), "given.json"))
}

func (p place) runDir() string { return filepath.Join(p.runtime(), "run") }
func (p place) socket() string { return filepath.Join(p.runDir(), "server.sock") }

// tls are the certificate's files. What was given is among the settings.
func (p place) tls() guestfiles.TLSFiles {
	return guestfiles.TLSFiles{Runtime: p.runtime(), UID: p.UID, GID: p.GID}
}

// program returns the path of the server's program.
func (p place) program() string { return filepath.Join("/", p.Root, p.product.server) }
