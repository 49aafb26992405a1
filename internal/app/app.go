// Package app wires the controllers: from the configuration come the drivers, from them the services. It is the one place that knows which driver
// stands behind which port.
//
// Run runs until its context ends and returns when everything is still; databases go on without it.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/clockwatch"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/edge"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/internal/sealedkeys"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
)

// controllers is everything that runs in the process. What belongs to a component that runs in another is nil.
type controllers struct {
	cfg     config.Config
	runs    Components
	outer   OpenCloud         // nil: the local cloud
	session *osclient.Session // of OpenStack, when something has needed it
	state   StateDir
	log     *slog.Logger
	clock   clock.Clock
	metrics *prometheus.Registry

	store    *sqlstore.Store
	sealer   keyring.Master
	keys     *sealedkeys.Keys // of the deployment
	clocks   *clockwatch.Watch
	brokers  *brokers
	address  netip.Addr   // where guests reach this host
	net      *hostnet.Net // of the local cloud; nil with another
	cloud    cloud.Provider
	catalog  cloud.Catalog
	bus      *server.Server
	requests bus.Conn // of the API and the taskmanager
	reports  bus.Conn // of the conductor

	objects   backupstore.Store // of the API and the taskmanager, as the grants
	grantKeys *grant.Keyring
	grants    *grant.Issuer

	taskmanager *taskmanager.Manager
	conductor   *conductor.Conductor
	fleet       *conductor.Fleet // nil: there is no page of all instances
	handler     http.Handler

	apiListeners    []net.Listener   // the first one is api.listen
	accepting       []*edge.Listener // what is below them
	draining        chan struct{}    // closed when the API begins to stop
	metricsListener net.Listener     // nil: there is none

	closers []func() error // in the order in which things were opened
}

// Run runs components of the service from a state directory until ctx ends. It calls ready when everything in this process has begun, with the API's
// address if the API is among it. Components in other processes may be started before or later.
func Run(ctx context.Context, cfg config.Config, runs Components, ready func(url string)) error {
	return RunOn(ctx, nil, cfg, runs, ready)
}

// OpenCloud opens a cloud that several taskmanagers may drive at the same time, from other hosts as well. The provider is closed when the process ends.
type OpenCloud func(ctx context.Context) (p cloud.Provider, closes func() error, err error)

// RunOn is Run with another cloud than the local one.
func RunOn(ctx context.Context, outer OpenCloud, cfg config.Config, runs Components, ready func(url string)) (err error) {
	tuneMemory()
	// Whoever starts it: sandboxes must be able to pass through directories that are made for them. Secret files have modes of their own.
	syscall.Umask(0o022)
	c := &controllers{
		cfg: cfg, runs: runs, outer: outer, state: StateDir(cfg.State), clock: clock.System{}, metrics: prometheus.NewRegistry(), draining: make(chan struct{}),
	}
	if outer == nil && cfg.Cloud == config.CloudOpenStack {
		c.outer = c.openStack
	}
	if c.log, err = logger(cfg.Log); err != nil {
		return err
	}
	if os.Geteuid() != 0 && cfg.Cloud != config.CloudOpenStack { // before anything is made
		return needsRoot(runs)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	// A port that is taken must be known before anything is made, too.
	if err := c.listen(ctx); err != nil {
		return err
	}
	if err := c.state.Make(); err != nil {
		return err
	}
	lock, err := c.state.Lock(ctx, runs)
	if err != nil {
		return err
	}
	c.closing(lock.Close)
	if err := recovery.Startable(cfg.State); err != nil {
		return err
	}
	stoodBy, err := c.waitForCloud(ctx, ready)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if stoodBy {
		ready = func(string) {} // it was said
	}
	c.warnHeld(ctx)
	if err := c.open(ctx); err != nil {
		return err
	}
	return c.serve(ctx, ready)
}

// waitForCloud makes the taskmanager of this process the one that works on this machine. Where it has to wait for another one it waits, if nothing else is in
// its process, and returns with ctx. A process that stands by is ready: whoever started it need not wait for its turn.
func (c *controllers) waitForCloud(ctx context.Context, ready func(url string)) (stoodBy bool, err error) {
	if !c.runs.Taskmanager || c.outer != nil {
		return false, nil
	}
	wait, stop := context.WithCancel(ctx)
	defer stop()
	var other error
	lock, err := c.state.LockCloud(wait, func(pid int) {
		c.log.InfoContext(ctx, "taskmanager stands by", "worker", pid)
		if c.runs.API || c.runs.Conductor {
			other = trove.Errorf(trove.KindConflict,
				"Another taskmanager works from %s (process %d): a process that runs more than a taskmanager cannot stand by.", c.state, pid)
			stop()
			return
		}
		stoodBy = true
		ready("")
	})
	switch {
	case other != nil:
		return false, other
	case ctx.Err() != nil:
		return stoodBy, nil // it was told to stop before its turn came
	case err != nil:
		return stoodBy, err
	}
	c.closing(lock.Close)
	return stoodBy, nil
}

func needsRoot(runs Components) error {
	if runs.Taskmanager {
		return trove.Errorf(trove.KindForbidden, "The service makes sandboxes, volumes and networks on this machine and needs root: run it as root, or with sudo.")
	}
	return trove.Errorf(trove.KindForbidden, "Keys and store of the service belong to root: run it as root, or with sudo.")
}

func logger(cfg config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", cfg.Level)
	}
	return telemetry.NewLogger(os.Stderr, cfg.Format, level), nil
}

// listen opens the ports that are told to clients of this machine: the API's, or in a process without the API the one for metrics.
func (c *controllers) listen(ctx context.Context) (err error) {
	switch {
	case c.runs.API:
		err = c.listenAPI(ctx)
	case c.cfg.Metrics.Listen != "":
		c.metricsListener, err = c.listenOn(ctx, c.cfg.Metrics.Listen, "The endpoint for metrics", "--metrics-listen or metrics.listen")
	}
	return err
}

func (c *controllers) listenOn(ctx context.Context, address, who, setting string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, trove.Wrap(trove.KindConflict, err, "%s cannot listen on %s: %v. Another service may have the port; choose one with %s.",
			who, address, cause(err), setting)
	}
	c.closing(func() error {
		_ = l.Close() // a server has closed it when it was started
		return nil
	})
	return l, nil
}

func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func (c *controllers) close() error {
	var errs []error
	for _, f := range slices.Backward(c.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (c *controllers) closing(f func() error) { c.closers = append(c.closers, f) }

// open opens the drivers and makes the services, from the bottom up.
func (c *controllers) open(ctx context.Context) (err error) {
	c.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := c.openState(ctx); err != nil {
		return err
	}
	if err := c.openDeployment(ctx); err != nil {
		return err
	}
	if c.runs.API || c.runs.Taskmanager {
		if err := c.openObjects(ctx); err != nil {
			return err
		}
	}
	if c.runs.Taskmanager {
		if err := c.openCloud(ctx); err != nil {
			return err
		}
		if err := c.startBroker(ctx); err != nil {
			return err
		}
		if err := c.startGateway(ctx); err != nil {
			return err
		}
	}
	if c.runs.API || c.runs.Taskmanager {
		if c.requests, err = c.connect(ctx, "requests"); err != nil {
			return err
		}
	}
	if c.runs.Taskmanager {
		if err := c.openTaskmanager(ctx); err != nil {
			return err
		}
	}
	if c.runs.Conductor {
		if err := c.openConductor(ctx); err != nil {
			return err
		}
	}
	if c.runs.API {
		return c.openAPI(ctx)
	}
	return nil
}

// openState opens the store.
func (c *controllers) openState(ctx context.Context) error {
	if err := oneStore(c.cfg); err != nil {
		return err
	}
	state, err := storeConfig(c.cfg)
	if err != nil {
		return err
	}
	state.Quotas, state.Log, state.Metrics = quotas(c.cfg.Quota), c.log, c.metrics
	if c.store, err = sqlstore.Open(ctx, state); err != nil {
		return err
	}
	c.closing(c.store.Close)
	return nil
}

// openDeployment opens what all processes of the deployment share: its keys, where its brokers are, and the time.
func (c *controllers) openDeployment(ctx context.Context) (err error) {
	if err := c.openKeys(ctx); err != nil {
		return err
	}
	c.brokers = &brokers{controllers: c.store.Controllers, name: brokerName(c.cfg), host: hostName(), clock: c.clock}
	return c.openClocks(ctx)
}

func (c *controllers) openTaskmanager(ctx context.Context) (err error) {
	if c.taskmanager, err = taskmanager.New(taskmanager.Config{ //nolint:contextcheck // its gauges ask the store when they are scraped
		Store: c.store, Cloud: c.cloud, Guests: guestapi.NewClient(c.requests), Issuer: c.bus, Enrolment: c.bus, Sealer: c.sealer, Objects: c.objects,
		Certifier: databaseCA(c.store, c.sealer, c.clock, c.log),
		Agents:    agents{Releases(c.cfg), c.grants}, Clock: c.clock, Log: c.log, Metrics: c.metrics, Workers: c.cfg.Workers.Operations,
		Hold:           c.held,
		CredentialLife: c.cfg.Bus.CredentialLife, KeepUpgraded: c.cfg.Upgrade.Keep, Pause: c.clocks.Stopped,
		Reconcile: c.lookAgain(), Alone: c.cfg.Store.URL == "", // the lock on the state directory says so; a server's database may have other taskmanagers elsewhere
	}); err != nil {
		return err
	}
	if c.runs == AllComponents {
		return nil
	}
	return c.hearWakes(ctx)
}

func (c *controllers) openConductor(ctx context.Context) (err error) {
	if c.reports, err = c.connect(ctx, "reports"); err != nil {
		return err
	}
	var wake func() // nil: over the bus
	if c.taskmanager != nil {
		wake = c.taskmanager.Wake
	}
	if c.conductor, err = conductor.New(conductor.Config{
		Store: c.store, Conn: c.reports, Clock: c.clock, Log: c.log, Metrics: c.metrics, Wake: wake,
	}); err != nil || c.cfg.Metrics.InstanceInterval == 0 {
		return err
	}
	if c.requests == nil { // a conductor alone has only listened so far
		if c.requests, err = c.connect(ctx, "requests"); err != nil {
			return err
		}
	}
	c.fleet, err = conductor.NewFleet(conductor.FleetConfig{
		Store: c.store, Guests: guestapi.NewClient(c.requests), Clock: c.clock, Log: c.log,
		Interval: c.cfg.Metrics.InstanceInterval, Series: c.cfg.Metrics.InstanceSeries,
	})
	return err
}

func quotas(q config.Quota) map[string]int {
	return map[string]int{trove.QuotaInstances: q.Instances, trove.QuotaRAM: q.RAM, trove.QuotaVolumes: q.Volumes, trove.QuotaBackups: q.Backups}
}

func (c *controllers) openAPI(ctx context.Context) error {
	if c.catalog == nil {
		if err := c.openCatalog(ctx); err != nil {
			return err
		}
	}
	url := c.cfg.API.URL()
	id, logins, err := c.openIdentity(ctx, url)
	if err != nil {
		return err
	}
	rules, err := policy.Load(c.policyFile())
	if err != nil {
		return err
	}
	datastore, err := c.defaultDatastore(ctx)
	if err != nil {
		return err
	}
	byPort, err := c.cfg.API.DisableByPort()
	if err != nil {
		return err
	}
	vault, err := c.openVault(ctx)
	if err != nil {
		return err
	}
	handler, err := api.New(api.Config{
		Store: c.store, Auth: id, Policy: rules, Guests: guestapi.NewClient(c.requests), Catalog: c.catalog, Sealer: c.sealer, Vault: vault, Clock: c.clock, Log: c.log,
		Metrics: c.metrics, Wake: c.wake, Objects: c.objects, Grants: c.grants, Engines: engines(),
		Region: c.cfg.Region, DefaultDatastore: datastore, PublicEndpoint: c.cfg.API.PublicURL, FollowRequest: true,
		MaxVolumeSize: c.cfg.API.MaxVolumeSize, Rates: c.cfg.API.Rates(), MaxBody: int64(c.cfg.API.MaxBody),
		Disabled: edge.Disabled{Path: c.cfg.API.HealthcheckDisable, ByPort: byPort}.Now,
		Draining: c.draining,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	if logins != nil {
		mux.Handle("/identity", logins)
		mux.Handle("/identity/", logins)
	}
	c.handleMetrics(mux)
	c.handler, err = front(c.cfg.API, c.clock, mux)
	return err
}

func (c *controllers) policyFile() string { return policyPath(c.cfg) }

// defaultDatastore returns what a create without a datastore gets: the only one there is, or mariadb.
func (c *controllers) defaultDatastore(ctx context.Context) (string, error) {
	all, err := c.store.Datastores(ctx)
	if err != nil || len(all) == 0 {
		return "mariadb", err
	}
	for _, d := range all {
		if d.Name == "mariadb" {
			return d.Name, nil
		}
	}
	return all[0].Name, nil
}

func binDir() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(self)
}
