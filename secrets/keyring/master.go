package keyring

import (
	"context"
	"time"

	"github.com/trove-dbaas/trove/secrets"
)

// Master are the master keys of a deployment where they are kept: what seals, and what an operator does with them. All processes that have it see the same keys, what
// one has changed at the latest when they meet something that is sealed under a key they do not know. It may be used from several goroutines.
type Master interface {
	secrets.Sealer
	// Rewrap is Ring.Rewrap.
	Rewrap(text string, purposes ...string) (string, bool)
	// Where says where the keys are, for people.
	Where() string
	// Keys returns the keys as they are now; the first one seals.
	Keys(ctx context.Context) ([]Key, error)
	// Prepare makes the next key, which opens and does not seal yet. If there is a next key already it stays. NotImplemented: it is not needed here.
	Prepare(ctx context.Context, now time.Time) (Key, error)
	// Rotate lets a new key seal, the prepared one if there is one. What was sealed before opens as before.
	Rotate(ctx context.Context, now time.Time) (Key, error)
	// Drop forgets keys. The one that seals stays. What is still sealed under a dropped key is lost: the caller has looked.
	Drop(ctx context.Context, ids ...string) error
	// Lines returns the keys themselves, as Parse reads them, for an export that is encrypted.
	Lines(ctx context.Context) ([]byte, error)
}
