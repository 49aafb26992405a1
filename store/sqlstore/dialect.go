package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	trove "github.com/trove-dbaas/trove"
)

// dialect is what differs between databases; the statements do not.
type dialect struct {
	name     string
	goose    goose.Dialect
	begin    string
	control  []any         // what the driver wants with BEGIN, COMMIT and ROLLBACK
	numbered bool          // placeholders are $1, $2 instead of ?
	atMost   time.Duration // for a transaction with its repetitions, or a read
	inside   bool          // the database runs in this process: no statement can hang, and no connection is lost
	// conflict reports whether the transaction met another one and has to run again.
	conflict func(error) bool
	// duplicate returns what was in the way of a new row, "" if that was not the fault. Between looking for a row and inserting it another transaction
	// may have done so, hence it is a conflict until it is the same again and again.
	duplicate func(error) string
	// full reports whether there was no space on the disk.
	full func(error) bool
	// lost reports whether the connection has gone, or the server cannot serve now: all of the transaction was dropped.
	lost func(error) bool
	// slow reports whether the server ended a statement for the time that it took.
	slow func(error) bool
	// unfit reports whether a value cannot be kept: a text that is too long, or holds what is no character.
	unfit func(error) bool
	// textColumns reads table and column of everything that holds text, in the order of the tables.
	textColumns string
	// now asks the database's clock, in microseconds since 1970.
	now string
}

const (
	// transactionLimit bounds a transaction and its repetitions, waiting for a connection included; a read has as long.
	transactionLimit = time.Minute
	// statementLimit is what the server itself bounds a statement with, lockLimit the wait for a row that another transaction holds.
	statementLimit = 30 * time.Second
	lockLimit      = 10 * time.Second
	// idleLimit is how long a transaction may send nothing before the server rolls it back: shorter than lockLimit, so that the rows of a process whose host
	// was lost, or that was stopped, are free before others give up waiting. Between two statements of ours lie milliseconds.
	idleLimit = 5 * time.Second
	// commitLimit is how long the answer to COMMIT is waited for, whatever the caller does meanwhile: without it nobody knows what happened.
	commitLimit = 15 * time.Second
)

var (
	errTooSlow = errors.New("the database did not answer in time")
	// errUnknown is a COMMIT whose answer did not come. It is never repeated here: the caller must look.
	errUnknown = errors.New("it is not known whether the transaction was committed")
)

func notThat(error) bool { return false }

// rebind turns the placeholders of the portable text into the database's. No statement has a question mark in a literal.
func (d *dialect) rebind(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitAfterSeq(query, "?") {
		text, found := strings.CutSuffix(part, "?")
		b.WriteString(text)
		if found {
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
	}
	return b.String()
}

// statementContext returns the context that a statement runs under. With SQLite it is checked before and not handed on: each statement that can be
// cut off costs two goroutines, more than the statement itself, and one that is cut off rolls the whole transaction back unasked. What may wait
// there is BEGIN alone, for busy_timeout at most.
func (d *dialect) statementContext(ctx context.Context) (context.Context, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it was doing
	}
	if d.inside {
		return context.WithoutCancel(ctx), nil
	}
	return ctx, nil
}

// limit bounds what is done under the context, so that a server which says nothing any more holds nobody for ever.
func (d *dialect) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.inside {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, d.atMost, errTooSlow)
}

// explain gives the errors that are no fault of the caller or of this program a kind and a sentence.
func (d *dialect) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case d.full(err):
		return trove.Wrap(trove.KindUnavailable, err,
			"The disk of the service's database is full: nothing can be changed now, and nothing was. Try again later; the operator has to make space.")
	case errors.Is(err, errUnknown):
		return trove.Wrap(trove.KindUnavailable, err,
			"The service's database was lost while it confirmed a change: it was made completely or not at all. Look before you repeat it.")
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTooSlow):
		return err // the caller went away
	case d.slow(err), ctx.Err() != nil:
		return trove.Wrap(trove.KindUnavailable, err, "The service's database takes too long to answer: nothing was changed. Try again later.")
	case d.lost(err):
		return trove.Wrap(trove.KindUnavailable, err, "The service's database cannot be reached now: nothing was changed. Try again in a moment.")
	case errors.Is(err, errConflict), d.conflict(err):
		return trove.Wrap(trove.KindUnavailable, err, "Too many change the same at this moment: nothing was changed. Try again in a moment.")
	case d.unfit(err):
		return trove.Wrap(trove.KindBadRequest, err, "A value is too long, or holds a character that the service's database cannot keep.")
	}
	return err
}
