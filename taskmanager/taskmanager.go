// Package taskmanager carries out the long operations: create, delete, restart, stop, start, resizes, access rules, upgrades and what administrators do to
// machines of instances, one file each. The
// steps are in the definitions; internal/workflow runs them, and this package adds what each of them does to the cloud, the guest and the row.
//
// It promises that an operation ends done or undone whatever dies in between (crash_test.go walks through every step and outside call), and that
// reconcilers repair what no operation looks at. It knows no engine: what it must know of one is data of the datastore version. Success is
// written in the transaction that closes the operation, so that an instance is free for the next one exactly when it looks free.
//
// A Manager may be used from several goroutines, and several processes may run one over the same store and cloud.
package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
)

// Config is what a Manager works with.
type Config struct {
	Store     store.Store
	Cloud     cloud.Provider
	Guests    Guests
	Issuer    bus.Issuer // renews the guests' credentials
	Enrolment bus.Enrolment
	Sealer    secrets.Sealer
	Certifier reconcilers.Certifier // signs the certificates of databases; nil: they do it themselves
	Objects   backupstore.Store     // where published logs are; nil: nowhere
	// Agents are the releases of the guest agent; nil: there are none, and agents are not upgraded.
	Agents  Agents
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none

	// UsageTimeout is how long a create may take in all, 30 minutes if 0 (Trove's usage_timeout).
	UsageTimeout time.Duration
	// CredentialLife is how long the credentials live that the issuer makes, 24 hours if 0.
	CredentialLife time.Duration
	// KeepUpgraded is how long the data of before an upgrade is kept that nobody confirms; 0: until the volume is nearly full.
	KeepUpgraded time.Duration
	// Reconcile is how often the reconcilers look, 15 s if 0.
	Reconcile time.Duration
	// Grace is how long something in the cloud may be without an owner before it is removed, 10 minutes if 0.
	Grace time.Duration
	// Alone says that no other Manager works on the store: what one that died was doing is taken over soon after the start, and not when its
	// leases end.
	Alone bool
	// Hold reports whether nothing may be removed that the store does not know, after a restore; nil: never.
	Hold func(ctx context.Context) bool
	// Pause says that no operation may be taken now, because the clock is wrong; nil: never.
	Pause func() bool
	// Workers is how many operations one Manager carries on at the same time; 0: the engine's default.
	Workers int
}

// Manager is the taskmanager.
type Manager struct {
	store     store.Store
	cloud     cloud.Provider
	guests    Guests
	enrolment bus.Enrolment
	sealer    secrets.Sealer
	certifier reconcilers.Certifier
	agents    Agents
	objects   backupstore.Store
	clock     clock.Clock
	log       *slog.Logger

	usageTimeout time.Duration
	patience     cloud.Patience // of the cloud
	engine       *workflow.Engine
	deletes      *reconcilers.Queue
	reconciler   *reconcilers.Loop
}

// outage is how long a step gives a service of the cloud that is away at least, however little the step does.
const outage = 5 * time.Minute

// New makes a Manager. It starts nothing.
func New(c Config) (*Manager, error) {
	switch {
	case c.Store == nil, c.Cloud == nil, c.Guests == nil, c.Enrolment == nil, c.Sealer == nil:
		return nil, errors.New("taskmanager: store, cloud, guests, enrolment and sealer are needed")
	case c.Clock == nil, c.Log == nil:
		return nil, errors.New("taskmanager: clock and log are needed")
	}
	m := &Manager{
		store: c.Store, cloud: c.Cloud, guests: c.Guests, enrolment: c.Enrolment, sealer: c.Sealer, certifier: c.Certifier, agents: c.Agents, objects: c.Objects, clock: c.Clock, log: c.Log,
		usageTimeout: cmp.Or(c.UsageTimeout, 30*time.Minute),
		deletes:      reconcilers.NewQueue(),
	}
	if p, ok := c.Cloud.(cloud.Patient); ok {
		m.patience = p.Patience()
	}
	// A create may take as long as its parts, where the cloud is slow.
	m.usageTimeout = max(m.usageTimeout, m.patience.Network+m.patience.Volume+2*m.patience.Boot)
	var err error
	m.engine, err = workflow.New(workflow.Config{
		Store: c.Store, Definitions: m.Definitions(), Clock: c.Clock, Log: c.Log, Metrics: c.Metrics, Workers: c.Workers,
		Alone: c.Alone, Pause: c.Pause,
	})
	if err != nil {
		return nil, fmt.Errorf("make the workflow engine: %w", err)
	}
	m.reconciler, err = reconcilers.New(reconcilers.Config{
		Store: c.Store, Cloud: c.Cloud, Guests: c.Guests, Issuer: c.Issuer, Enrolment: c.Enrolment, Certifier: c.Certifier, Clock: c.Clock, Log: c.Log,
		Metrics: c.Metrics, Deletes: m.deletes, Wake: m.engine.Wake, Interval: c.Reconcile, Sweep: m.patience.Sweep, Grace: c.Grace, Hold: c.Hold,
		CredentialLife: c.CredentialLife, KeepUpgraded: c.KeepUpgraded,
	})
	if err != nil {
		return nil, fmt.Errorf("make the reconcilers: %w", err)
	}
	return m, nil
}

// Definitions returns the kinds of operations.
func (m *Manager) Definitions() []*workflow.Definition {
	return []*workflow.Definition{
		m.createInstance(), m.deleteInstance(), m.restartInstance(), m.stopInstance(), m.startInstance(), m.resizeFlavor(), m.resizeVolume(), m.updateAccess(), m.upgradeAgent(),
		m.stopInstanceEngine(), m.rebootInstance(), m.rebuildInstance(), m.migrateInstance(),
		m.upgradeInstance(), m.rollbackUpgrade(), m.confirmUpgrade(),
	}
}

// Engine returns the engine that carries out the definitions; tests run it step by step.
func (m *Manager) Engine() *workflow.Engine { return m.engine }

// Reconcilers returns the loop of the reconcilers; tests run it one by one.
func (m *Manager) Reconcilers() *reconcilers.Loop { return m.reconciler }

// Wake says that there may be work. It never blocks.
func (m *Manager) Wake() { m.engine.Wake() }

// Run carries out operations and reconciles until the context ends, and returns when all is still.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.reconciler.Run(ctx) })
	err := m.engine.Run(ctx)
	cancel()
	wg.Wait()
	return err //nolint:wrapcheck // the engine's own error says it all
}
