package app

import (
	"context"
	"log/slog"

	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/clock"
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
