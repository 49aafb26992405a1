package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// KeptDataReader is what can be read of data that upgrades have kept.
type KeptDataReader interface {
	// KeptData returns what is kept of an instance, NotFound if nothing is.
	KeptData(ctx context.Context, instance string) (trove.KeptData, error)
	// AllKeptData returns what is kept since before a time, the oldest first; at most limit.
	AllKeptData(ctx context.Context, before time.Time, limit int) ([]trove.KeptData, error)
}

// KeptDataWriter is what can be written of it. DeleteInstance forgets it too.
type KeptDataWriter interface {
	// PutKeptData inserts or replaces it.
	PutKeptData(ctx context.Context, k trove.KeptData) error
	// DeleteKeptData forgets it. Gone is fine.
	DeleteKeptData(ctx context.Context, instance string) error
}
