package store

import (
	"context"
	"time"
)

// The states of an idempotent call.
//
//	running ──► answered   what it did and its answer were written
//	   │  └───► done       what it did was written, its answer was not yet: nobody may do it again
//	   └──────► (no row)   it did nothing
const (
	CallRunning  = "running"
	CallDone     = "done"
	CallAnswered = "answered"
)

// IdempotentCall is a call of the API that must not be carried out twice.
type IdempotentCall struct {
	ID          string // names project and key, at most 64 characters
	Owner       string // who carries it out, another one with each attempt
	State       string
	LeaseEnd    time.Time // from when on a running call counts as dead
	Expires     time.Time // from when on the row says nothing any more
	AnswerEnds  time.Time // from when on the answer is not kept: one that holds a secret lives shorter than the row
	Fingerprint string    // of the request; sealed
	Answer      string    // "" before there is one; its body is sealed
}

// IdempotentCallReader reads idempotent calls.
type IdempotentCallReader interface {
	// IdempotentCall is NotFound if there is none. Whether it has expired is for the caller to see.
	IdempotentCall(ctx context.Context, id string) (IdempotentCall, error)
}

// IdempotentCalls are the changes to them.
type IdempotentCalls interface {
	// ClaimIdempotentCall writes the row in place of the one that was seen; a seen one without an owner stands for none. ErrLost: another one was
	// quicker.
	ClaimIdempotentCall(ctx context.Context, seen, c IdempotentCall) error
	// FinishIdempotentCall writes state, both ends and answer of a row that still is the owner's, else it is ErrLost. It may be repeated.
	FinishIdempotentCall(ctx context.Context, c IdempotentCall) error
	// ReleaseIdempotentCall removes a row that still is the owner's and running. Gone is fine.
	ReleaseIdempotentCall(ctx context.Context, id, owner string) error
	// PruneIdempotentCalls removes rows that have expired, at most limit, and returns how many there were. Of others it removes the answers whose
	// time is over; what was done stays done.
	PruneIdempotentCalls(ctx context.Context, now time.Time, limit int) (int, error)
}
