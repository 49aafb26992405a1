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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	identitylocal "github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/telemetry"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
)

// controllers is everything that runs in the process.
type controllers struct {
	cfg     config.Config
	state   StateDir
	log     *slog.Logger
	clock   clock.Clock
	metrics *prometheus.Registry

	store    *sqlstore.Store
	sealer   *secretsfile.Sealer
	net      *hostnet.Net
	cloud    *local.Provider
	bus      *server.Server
	requests bus.Conn
	reports  bus.Conn
	guests   *guestapi.Client

	taskmanager *taskmanager.Manager
	conductor   *conductor.Conductor
	handler     http.Handler

	closers []func() error // in the order in which things were opened
}

// Run runs the service from a state directory until ctx ends. It calls ready with the API's address when everything answers.
func Run(ctx context.Context, cfg config.Config, ready func(url string)) (err error) {
	c := &controllers{cfg: cfg, state: StateDir(cfg.State), clock: clock.System{}, metrics: prometheus.NewRegistry()}
	if c.log, err = logger(cfg.Log); err != nil {
		return err
	}
	if os.Geteuid() != 0 { // before anything is made
		return trove.Errorf(trove.KindForbidden, "The service makes sandboxes, volumes and networks on this machine and needs root: run it as root, or with sudo.")
	}
	// A port that is taken must be known before anything is made, too.
	listener, err := listen(ctx, cfg.API.Listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // the server has closed it when it was started
	if err := c.state.Make(); err != nil {
		return err
	}
	lock, err := c.state.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx); err != nil {
		return err
	}
	return c.serve(ctx, listener, ready)
}

func logger(cfg config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", cfg.Level)
	}
	return telemetry.NewLogger(os.Stderr, cfg.Format, level), nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, trove.Wrap(trove.KindConflict, err, "The API cannot listen on %s: %v. Another service may have the port; choose one with --listen or api.listen.", address, cause(err))
	}
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
	if c.store, err = sqlstore.Open(ctx, sqlstore.Config{
		Path: c.state.Path("store.db"), Quotas: quotas(c.cfg.Quota), Log: c.log, Metrics: c.metrics,
	}); err != nil {
		return err
	}
	c.closing(c.store.Close)
	if c.sealer, err = secretsfile.Open(filepath.Join(c.state.Keys(), "master.key")); err != nil {
		return err
	}
	if err := registerImages(ctx, c.store, c.state.Images()); err != nil {
		return err
	}
	if err := c.openCloud(ctx); err != nil {
		return err
	}
	if err := c.openBus(ctx); err != nil {
		return err
	}
	if c.taskmanager, err = taskmanager.New(taskmanager.Config{ //nolint:contextcheck // its gauges ask the store when they are scraped
		Store: c.store, Cloud: c.cloud, Guests: c.guests, Issuer: c.bus, Enrolment: c.bus, Sealer: c.sealer,
		Clock: c.clock, Log: c.log, Metrics: c.metrics, Workers: c.cfg.Workers.Operations,
	}); err != nil {
		return err
	}
	if c.conductor, err = conductor.New(conductor.Config{
		Store: c.store, Conn: c.reports, Clock: c.clock, Log: c.log, Metrics: c.metrics, Wake: c.taskmanager.Wake,
	}); err != nil {
		return err
	}
	return c.openAPI(ctx)
}

func quotas(q config.Quota) map[string]int {
	return map[string]int{trove.QuotaInstances: q.Instances, trove.QuotaRAM: q.RAM, trove.QuotaVolumes: q.Volumes, trove.QuotaBackups: q.Backups}
}

func (c *controllers) openBus(ctx context.Context) (err error) {
	host := c.net.HostAddress().String()
	if c.bus, err = server.Start(ctx, server.Config{
		KeysDir: c.state.Keys(), Listen: net.JoinHostPort(host, fmt.Sprint(c.cfg.Bus.Port)), EnrolListen: net.JoinHostPort(host, fmt.Sprint(c.cfg.Bus.EnrolPort)),
		Repository: revocations{c.store}, Guests: enrolments{c.store, c.clock}, Log: c.log, Clock: c.clock, Metrics: c.metrics,
	}); err != nil {
		return err
	}
	c.closing(c.bus.Close)
	if c.requests, err = c.bus.Conn(ctx, "requests"); err != nil {
		return err
	}
	if c.reports, err = c.bus.Conn(ctx, "reports"); err != nil {
		return err
	}
	c.guests = guestapi.NewClient(c.requests)
	return nil
}

func (c *controllers) openAPI(ctx context.Context) error {
	url := c.cfg.API.PublicURL
	if url == "" {
		url = "http://" + c.cfg.API.Listen
	}
	id := identitylocal.New(identitylocal.Config{Repository: c.store, Clock: c.clock, Log: c.log, PublicURL: c.cfg.API.PublicURL, Region: c.cfg.Region})
	if err := ensureAccounts(ctx, c.state, id, url, c.cfg.Region, binDir()); err != nil {
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
	handler, err := api.New(api.Config{
		Store: c.store, Auth: id, Policy: rules, Guests: c.guests, Catalog: c.cloud, Sealer: c.sealer, Clock: c.clock, Log: c.log,
		Metrics: c.metrics, Wake: func(context.Context) { c.taskmanager.Wake() },
		Region: c.cfg.Region, DefaultDatastore: datastore, PublicEndpoint: url, MaxVolumeSize: c.cfg.API.MaxVolumeSize,
		Rates: rates(c.cfg.API.RateLimit), NoRateLimit: c.cfg.API.RateLimit == 0,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("/identity", id)
	mux.Handle("/identity/", id)
	mux.Handle("GET /metrics", localOnly(metricsHandler(c.metrics)))
	c.handler = mux
	return nil
}

func (c *controllers) policyFile() string {
	if filepath.IsAbs(c.cfg.API.PolicyFile) {
		return c.cfg.API.PolicyFile
	}
	return c.state.Path(c.cfg.API.PolicyFile)
}

func rates(perMinute int) map[string]int {
	all := map[string]int{}
	for _, verb := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		all[verb] = perMinute
	}
	return all
}

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

// serve runs the services until ctx ends, then stops them in the reverse order of need: first the API, so that nothing new is accepted.
func (c *controllers) serve(ctx context.Context, listener net.Listener, ready func(url string)) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	run := func(name string, f func(context.Context) error) {
		g.Go(func() error {
			defer stop() // one that ends takes the others along
			if err := f(background); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("conductor", c.conductor.Run)
	run("taskmanager", c.taskmanager.Run)
	run("images", c.watchImages)
	h := &http.Server{
		Handler: c.handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	run("api", func(context.Context) error {
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err //nolint:wrapcheck // wrapped with the service's name above
		}
		return nil
	})
	c.log.InfoContext(ctx, "service started", "api", listener.Addr().String())
	ready("http://" + listener.Addr().String())
	select {
	case <-ctx.Done():
	case <-background.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.API.Drain)
	defer cancel()
	if err := h.Shutdown(drain); err != nil {
		_ = h.Close() // long polls are cut; clients ask again
	}
	stop()
	err := g.Wait()
	c.log.Info("service stopped")
	return err
}

// imagePoll is how often the images directory is looked at: an image that was built meanwhile becomes a datastore version without a restart.
const imagePoll = 2 * time.Second

func (c *controllers) watchImages(ctx context.Context) error {
	var last time.Time
	tick := time.NewTicker(imagePoll)
	defer tick.Stop()
	for {
		if info, err := os.Stat(c.state.Images()); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
			if err := registerImages(ctx, c.store, c.state.Images()); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "images were not registered", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// localOnly lets requests through that come from this machine.
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(strings.TrimSpace(host)); err != nil || ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
