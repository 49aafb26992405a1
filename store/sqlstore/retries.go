package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	// txAttempts is how often a transaction that meets another one is run.
	txAttempts = 10
	// sameDuplicates is how often in a row the same thing must be in the way of an insert until it was there before: code looks before it inserts.
	sameDuplicates = 3
)

// retries decides whether a transaction or a read runs again. Nothing of it is left when it does: the database dropped all of it.
type retries struct {
	dialect  *dialect
	patience time.Duration // how long a server that is away is waited for

	attempts   int
	away       func() time.Duration // since when; nil: it was not
	lastDup    string
	duplicates int
}

// again returns after which time to try once more.
func (r *retries) again(ctx context.Context, err error) (time.Duration, bool) {
	if ctx.Err() != nil || errors.Is(err, errUnknown) {
		return 0, false
	}
	r.attempts++
	if r.dialect.lost(err) {
		if r.away == nil {
			r.away = clock.Stopwatch()
		}
		return spread(10*time.Millisecond, r.attempts, 500*time.Millisecond), r.away() < r.patience
	}
	dup := r.dialect.duplicate(err)
	if dup != "" && dup == r.lastDup {
		r.duplicates++
	} else {
		r.duplicates = 1
	}
	r.lastDup = dup
	conflict := errors.Is(err, errConflict) || r.dialect.conflict(err) || dup != "" && r.duplicates < sameDuplicates
	return spread(2*time.Millisecond, r.attempts, 200*time.Millisecond), conflict && r.attempts < txAttempts
}

// last is the error of a transaction that does not run again. What met another row each time was in a race to the end.
func (r *retries) last(err error) error {
	if r.lastDup != "" && r.duplicates < sameDuplicates && r.attempts >= txAttempts {
		return errors.Join(err, errConflict)
	}
	return err
}

// spread doubles a time with each attempt up to the most, and adds up to as much again at random.
func spread(first time.Duration, attempt int, most time.Duration) time.Duration {
	wait := min(first<<min(attempt-1, 16), most)
	return wait + rand.N(wait) //nolint:gosec // only spreads the repetitions
}
