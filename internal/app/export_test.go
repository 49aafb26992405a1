package app

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
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
	id, logins, err := c.openIdentity(ctx, "http://"+cfg.API.Listen)
	return id, logins, c.close, err
}
