package app

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/clockwatch"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// NewEnrolments is what the enrolment endpoint asks over a store.
func NewEnrolments(s *sqlstore.Store) server.Guests { return enrolments{s, clock.System{}} }

// Alarmed handles an alarm of the broker over a store.
func Alarmed(ctx context.Context, s *sqlstore.Store, a server.Alarm) {
	(&controllers{store: s, clock: clock.System{}, log: slog.New(slog.DiscardHandler)}).alarmed(ctx, a)
}

// StandbyLook is how often a taskmanager that stands by looks.
const StandbyLook = standbyLook

// OpenIdentity opens who checks tokens over a store, and returns what closes it besides.
func OpenIdentity(ctx context.Context, cfg config.Config, s *sqlstore.Store) (identity.Authenticator, http.Handler, func() error, error) {
	c := &controllers{
		cfg: cfg, state: StateDir(cfg.State), store: s, clock: clock.System{}, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry(),
	}
	if err := c.openKeys(ctx); err != nil {
		return nil, nil, nil, err
	}
	id, logins, err := c.openIdentity(ctx, "http://"+cfg.API.Listen)
	return id, logins, c.close, err
}

// OpenDeploymentKeys opens the master key and the keys of a deployment as a controller of this state directory does.
func OpenDeploymentKeys(ctx context.Context, cfg config.Config, s *sqlstore.Store) (keyfile.Keeper, error) {
	c := &controllers{cfg: cfg, state: StateDir(cfg.State), store: s, clock: clock.System{}, log: slog.New(slog.DiscardHandler)}
	err := c.openKeys(ctx)
	return c.keys, err
}

// Brokers is where a process of this host finds brokers and gateways.
type Brokers struct{ b *brokers }

// NewBrokers returns it over a table of controllers.
func NewBrokers(name, host string, c clock.Clock, table func(context.Context) ([]sqlstore.Controller, error)) Brokers {
	return Brokers{&brokers{controllers: table, name: name, host: host, clock: c}}
}

// Address is where to connect next.
func (b Brokers) Address() (string, error) { return b.b.address() }

// Gateways is what guests are told.
func (b Brokers) Gateways() ([]string, error) { return b.b.gateways() }

// OwnCloud claims the local cloud for this machine.
func OwnCloud(ctx context.Context, cfg config.Config, s *sqlstore.Store) error {
	return (&controllers{cfg: cfg, store: s}).ownCloud(ctx)
}

// CloudHere looks whether an api may work with the local cloud of this machine.
func CloudHere(ctx context.Context, cfg config.Config, s *sqlstore.Store) error {
	return (&controllers{cfg: cfg, store: s}).cloudHere(ctx)
}

// OpenClocks compares the clocks at the start of a process.
func OpenClocks(ctx context.Context, cfg config.Config, s *sqlstore.Store, now clock.Clock) (*clockwatch.Watch, error) {
	c := &controllers{cfg: cfg, store: s, clock: now, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry()}
	err := c.openClocks(ctx)
	return c.clocks, err
}
