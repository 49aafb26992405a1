// Package fake is an engine without a database: its process sleeps, and its databases and users are a file on the volume. Tests of the agent and
// of everything above it use it where the product does not matter, and its knobs make it fail.
//
// It keeps the port's contract and passes enginetest as far as no SQL is needed. Passwords are kept as SHA-256 only. An Engine may be used from
// several goroutines; two Engines of one Layout see the same files.
package fake

import (
	"context"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Manager is the driver's name in a datastore version.
const Manager = "fake"

// Op names a method for the knobs.
type Op string

// The methods that can be made to fail.
const (
	OpInitialise     Op = "initialise"
	OpPrepare        Op = "prepare"
	OpConfigure      Op = "configure"
	OpCommand        Op = "command"
	OpReady          Op = "ready"
	OpPing           Op = "ping"
	OpDatabases      Op = "databases"
	OpCreateDatabase Op = "create-database"
	OpDropDatabase   Op = "drop-database"
	OpUsers          Op = "users"
	OpCreateUser     Op = "create-user"
	OpDropUser       Op = "drop-user"
	OpUpdateUser     Op = "update-user"
	OpGrant          Op = "grant"
	OpRevoke         Op = "revoke"
	OpEnableRoot     Op = "enable-root"
	OpDisableRoot    Op = "disable-root"
	OpRootEnabled    Op = "root-enabled"
	OpVersions       Op = "versions"
	OpCheckUpgrade   Op = "check-upgrade"
	OpUpgrade        Op = "upgrade"
	OpFinishUpgrade  Op = "finish-upgrade"
)

// Engine is the driver.
type Engine struct {
	mu     sync.Mutex
	fail   map[Op][]error
	calls  map[Op]int
	script string

	version  string
	findings []engine.Finding
	lines    []string // of the log general, not written yet
}

var _ engine.Engine = (*Engine)(nil)

// New returns a driver without failures.
func New() *Engine {
	return &Engine{fail: map[Op][]error{}, calls: map[Op]int{}, version: FirstVersion}
}

// FailNext makes the next call of a method return err; several are used up in order.
func (e *Engine) FailNext(op Op, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail[op] = append(e.fail[op], err)
}

// RunScript makes Command start this shell script in place of the one that sleeps: "echo broken >&2; exit 1" is a server that crashes at its start.
// "" goes back. A server is up once its script has called the function up; what comes after it must keep the process id: "up; exec sleep 1000".
func (e *Engine) RunScript(script string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = script
}

// Calls returns how often a method was called.
func (e *Engine) Calls(op Op) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[op]
}

// begin counts a call and returns the failure that was asked for. The caller holds the lock.
func (e *Engine) begin(op Op) error {
	e.calls[op]++
	if errs := e.fail[op]; len(errs) > 0 {
		e.fail[op] = errs[1:]
		return errs[0]
	}
	return nil
}

// Info returns the facts.
func (*Engine) Info() engine.Info {
	return engine.Info{
		Manager: Manager, RootName: "root", User: "nobody", StopTimeout: 5 * time.Second,
		Capabilities: trove.Capabilities{
			Port: 3306, Volume: true, Databases: true, Users: true, Root: true, UserHosts: true,
			ReservedUsers: []string{"root", "os_admin"}, ReservedDatabases: []string{"system"},
			MaxUserName: 32, MaxDatabaseName: 64, Client: []string{"true"},
		},
	}
}

// up is Unavailable unless the process of this layout runs.
func up(l engine.Layout) error {
	running, err := running(l)
	if err != nil {
		return fmt.Errorf("look for the process: %w", err)
	}
	if !running {
		return trove.Errorf(trove.KindUnavailable, "The database server does not answer.")
	}
	return nil
}

// Ready asks whether the process runs.
func (e *Engine) Ready(_ context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpReady); err != nil {
		return err
	}
	return up(l)
}

// Ping asks whether the process runs.
func (e *Engine) Ping(_ context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.begin(OpPing); err != nil {
		return err
	}
	return up(l)
}
