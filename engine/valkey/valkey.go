// Package valkey drives a Valkey server inside a guest: the driver of Redis with what Valkey calls differently. What it promises is in package redis.
package valkey

import (
	"log/slog"

	"github.com/trove-dbaas/trove/engine/redis"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Manager is the driver's name in a datastore version.
const Manager = redis.ManagerValkey

// New returns the driver.
func New(log *slog.Logger, clk clock.Clock) *redis.Engine { return redis.NewValkey(log, clk) }
