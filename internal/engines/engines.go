// Package engines lists the engine drivers: a new one is a line here. The controllers take facts and rules from a driver, the guest agent runs it.
package engines

import (
	"log/slog"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/engine/redis"
	"github.com/trove-dbaas/trove/engine/valkey"
	"github.com/trove-dbaas/trove/internal/clock"
)

// All returns the drivers.
func All(log *slog.Logger, clk clock.Clock) []engine.Engine {
	return []engine.Engine{
		mariadb.New(log, clk),
		redis.New(log, clk),
		valkey.New(log, clk),
	}
}
