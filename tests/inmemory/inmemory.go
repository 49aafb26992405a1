// Package inmemory is a whole deployment in the process of a test: the real API, policy, local identity, SQLite store, taskmanager, conductor and guest
// agents. The bus, the cloud and the databases are the fakes that pass the suites of their ports, so that it starts in moments, needs no right and no
// network but a port of the loopback, and leaves nothing. Options take real databases in place of the fakes, and put the services that a dashboard asks
// beside ours into the catalogue.
//
// Tests take the parts that they need: Guests and StartControllers, or Start and StartWith for all of it. The methods may be called from several goroutines.
package inmemory

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/backupstore/mem"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/engine"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	identity "github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// What a deployment has.
const (
	Datastore   = "mariadb"
	Version     = "10.11"
	DatastoreID = "33333333-3333-4333-8333-333333333333"
	VersionID   = "22222222-2222-4222-8222-222222222222"
	ImageID     = "44444444-4444-4444-8444-444444444444"
	Region      = "RegionOne"
	Manager     = enginefake.Manager
	Parameter   = "max_things" // an integer that is changed without a restart
)

// Account is somebody who may log in.
type Account struct {
	User, Project string
	Password      trove.Secret
	Roles         []string
}

// Options is what a deployment has beside the usual.
type Options struct {
	Accounts []Account
	// Databases run on the machines; the zero value stands for databases that are not there.
	Databases Databases
	// Neighbours puts Nova, Cinder and Neutron into the catalogue, as far as neighbours.go has them.
	Neighbours bool
}

// Deployment is a running server.
type Deployment struct {
	URL string // scheme, host and port

	options Options
	dir     string
	store   *sqlstore.Store
	broker  *membus.Broker
	guests  *Guests
	cloud   *fake.Cloud
	ends    []func() error // in the order in which they were begun
}

// Start starts a deployment with the accounts. Close ends what was begun, also after an error.
func Start(ctx context.Context, accounts ...Account) (*Deployment, error) {
	return StartWith(ctx, Options{Accounts: accounts})
}

// StartWith starts a deployment.
func StartWith(ctx context.Context, o Options) (*Deployment, error) {
	dir, err := os.MkdirTemp("", "trove") // short: the paths of sockets are
	if err != nil {
		return nil, err
	}
	d := &Deployment{options: o, dir: dir, broker: membus.New()}
	if o.Databases.New == nil {
		d.options.Databases = fakes()
	}
	d.ends = append(d.ends, func() error { return os.RemoveAll(dir) }, d.broker.Close)
	if err := errors.Join(os.Chmod(dir, 0o711), d.start(ctx)); err != nil { // databases of other accounts go through it
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Deployment) start(ctx context.Context) (err error) {
	if d.store, err = sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(d.dir, "store.db"), NoSync: true}); err != nil {
		return err
	}
	d.ends = append(d.ends, d.store.Close)
	if err := d.store.InTx(ctx, d.options.Databases.Put); err != nil {
		return err
	}
	keys, err := grant.Open(ctx, keyfile.Dir(d.dir), clock.System{})
	if err != nil {
		return err
	}
	if _, err := keys.Renew(ctx, false); err != nil {
		return err
	}
	kept := mem.New()
	d.guests = NewGuests(filepath.Join(d.dir, "g"), d.store, d.broker, objects{keys, kept})
	d.guests.databases = d.options.Databases
	d.cloud = fake.New(fake.Options{
		Images: []string{ImageID}, Networks: d.options.Databases.Networks, Boot: d.guests.Boot, Halt: d.guests.Halt,
	})
	d.guests.networks = d.cloud
	d.ends = append(d.ends, func() error { d.guests.HaltAll(); return nil })
	provider, err := d.provider()
	if err != nil {
		return err
	}
	stop, err := StartControllers(ctx, d.store, d.broker, provider)
	if err != nil {
		return err
	}
	d.ends = append(d.ends, stop)
	return d.serve(ctx, keys, kept)
}

// provider is the cloud, with public addresses where the databases have them.
func (d *Deployment) provider() (cloud.Provider, error) {
	if d.options.Databases.Public == "" {
		return d.cloud, nil
	}
	r, err := newRouter(d.cloud, d.options.Databases.Public)
	d.ends = append(d.ends, r.close)
	return r, err
}

// PutDatastore writes the datastore of fake databases with its version and parameters.
func PutDatastore(ctx context.Context, tx store.Tx) error { return fakes().Put(ctx, tx) }

// Put writes the one datastore with its version and parameters.
func (b Databases) Put(ctx context.Context, tx store.Tx) error {
	e := b.New()
	return errors.Join(
		tx.PutDatastore(ctx, trove.Datastore{ID: DatastoreID, Name: Datastore, DefaultVersionID: VersionID}),
		tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
			ID: VersionID, DatastoreID: DatastoreID, Name: Version, Version: Version, Manager: e.Info().Manager, ImageID: ImageID, Active: true,
			Capabilities: e.Info().Capabilities,
		}),
		tx.ReplaceParameters(ctx, VersionID, e.Parameters()))
}

// Engines is what the API knows of fake databases.
func Engines() map[string]api.Engine { return fakes().Engines() }

// Engines is what the API knows of the one engine.
func (b Databases) Engines() map[string]api.Engine {
	e := b.New()
	return map[string]api.Engine{e.Info().Manager: {
		Capabilities: e.Info().Capabilities, Parameters: func(string) []trove.Parameter { return e.Parameters() },
		Defaults: func(ram, vcpus int) map[string]string { return e.Defaults(engine.Settings{RAM: ram, VCPUs: vcpus}) },
	}}
}

// serve starts the API and the identity service on a free port.
func (d *Deployment) serve(ctx context.Context, keys *grant.Keyring, kept *mem.Store) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.URL = "http://" + listener.Addr().String()
	log := slog.New(slog.DiscardHandler)
	id := identity.New(identity.Config{
		Repository: d.store, Clock: clock.System{}, Log: log, PublicURL: d.URL, Region: Region, Services: d.neighbours(),
	})
	for _, a := range d.options.Accounts {
		if _, _, err := id.EnsureAccount(ctx, a.User, a.Password, a.Project, a.Roles...); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	rules, err := policy.New(nil)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	urls := func() ([]string, error) { return []string{"https://192.0.2.1:4224"}, nil }
	conn := d.broker.Conn("api")
	handler, err := api.New(api.Config{
		Store: d.store, Auth: id, Policy: rules, Guests: guestapi.NewClient(conn), Catalog: d.cloud, Sealer: Sealer{}, Clock: clock.System{}, Log: log,
		Wake:    func(ctx context.Context) { _ = conn.Publish(ctx, guestapi.WakeSubject, nil) }, // it looks every second by itself
		Objects: kept, Grants: grant.NewIssuer(keys, d.store, urls, clock.System{}),
		Region: Region, DefaultDatastore: Datastore, PublicEndpoint: d.URL, Rates: Rates(), Engines: d.options.Databases.Engines(),
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("/identity", id)
	mux.Handle("/identity/", id)
	d.routeNeighbours(mux)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	d.ends = append(d.ends, func() error {
		err := server.Close()
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return nil
}

// Rates are limits that no test reaches, and that clients are told of.
func Rates() map[string]int {
	all := map[string]int{}
	for _, verb := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		all[verb] = 1_000_000
	}
	return all
}

// Leftovers returns what exists in the cloud.
func (d *Deployment) Leftovers() []string { return d.cloud.Leftovers() }

// Close ends everything and removes its files.
func (d *Deployment) Close() error {
	var errs []error
	for _, end := range slices.Backward(d.ends) {
		errs = append(errs, end())
	}
	d.ends = nil
	return errors.Join(errs...)
}
