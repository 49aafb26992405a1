// Package workflow runs durable operations: named, idempotent steps that survive a crash at any point and are undone in reverse when they
// cannot be finished. It knows nothing of databases.
//
// An operation is a row of the store. Workers of any number of processes claim rows by compare-and-swap and a lease; who loses the lease
// writes nothing more. A step looks first, does at most one outside thing, and says what comes next; it never sleeps and never loops over
// waiting. Because a step can be cut off anywhere and run again elsewhere, whatever it does outside must be found again by a name derived
// from the target.
//
//	          ┌────────── Again(after) / WaitFor(until): released, claimed later by anyone ─────────┐
//	          ▼                                                                                     │
//	enqueue ─► claimed ─► step 0 ─ Done ─► step 1 ─ Done ─► … ─► last step ─ Done ─► done           │
//	              │          │                                                                      │
//	              │          └── permanent error, deadline, cancel ─► undo of that step ─► … ─► undo of step 0 ─► undone
//	              └── lease lost: the row is due again when it ends
//
// The statements and figures are in docs/architecture.md. An Engine may be used from several goroutines.
package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Op is an operation as its steps see it. It is valid during one call.
type Op struct {
	row   store.OperationRow
	notes map[string]json.RawMessage
	say   func(ctx context.Context, sentence string, percent int)
}

// ID returns the operation's id.
func (o *Op) ID() string { return o.row.ID }

// Target returns the id of the instance.
func (o *Op) Target() string { return o.row.Target }

// Project returns the id of the project that owns the instance.
func (o *Op) Project() string { return o.row.ProjectID }

// RequestID returns the id of the API call that asked for the operation.
func (o *Op) RequestID() string { return o.row.RequestID }

// Created returns when the operation was asked for.
func (o *Op) Created() time.Time { return o.row.Created }

// Step returns the name of the step that runs.
func (o *Op) Step() string { return o.row.Step }

// Attempt returns how often this step has failed or waited before, 0 at first.
func (o *Op) Attempt() int { return o.row.Attempt }

// Cause returns why the operation is being undone, "" while it is not.
func (o *Op) Cause() string { return o.row.Error }

// Input reads what the operation was enqueued with.
func (o *Op) Input(v any) error {
	if err := json.Unmarshal(o.row.Input, v); err != nil {
		return trove.Permanent(fmt.Errorf("read the input of operation %s: %w", o.row.ID, err))
	}
	return nil
}

// Note reads a value that an earlier step (or an earlier run of this one) kept; false if there is none.
func (o *Op) Note(key string, v any) (bool, error) {
	raw, ok := o.notes[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(raw, v)
}

// SetNote keeps a value for later steps. It is stored with the step's outcome, and lost if the process dies before: a step must not depend on
// a note of its own run.
func (o *Op) SetNote(key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("note %s: %w", key, err)
	}
	o.notes[key] = raw
	return nil
}

// Say shows people what goes on, at once. The percentage is of this step.
func (o *Op) Say(ctx context.Context, percent int, format string, args ...any) {
	o.say(ctx, fmt.Sprintf(format, args...), percent)
}

// Outcome is what a step says.
type Outcome struct {
	kind     outcomeKind
	after    time.Duration
	sentence string
	commit   func(ctx context.Context, tx store.Tx) error
}

type outcomeKind uint8

const (
	outcomeDone outcomeKind = iota
	outcomeAgain
	outcomeWait
)

// Done says that what the step promises is so.
func Done() Outcome { return Outcome{} }

// IsDone reports whether the step has nothing left to do: steps that are made of others ask it.
func (o Outcome) IsDone() bool { return o.kind == outcomeDone }

// DoneWith is Done, with writes that are committed in the same transaction as the transition to the next step.
func DoneWith(commit func(ctx context.Context, tx store.Tx) error) Outcome {
	return Outcome{commit: commit}
}

// Again says that the step shall run again after a while, because something outside is under way that sends no event. The sentence tells people
// what is waited for.
func Again(after time.Duration, format string, args ...any) Outcome {
	return Outcome{kind: outcomeAgain, after: after, sentence: fmt.Sprintf(format, args...)}
}

// WaitFor says that the step waits for an event on its target (Signal). It also runs again by timer, because every message may be lost once.
func WaitFor(format string, args ...any) Outcome {
	return Outcome{kind: outcomeWait, after: LookAgain, sentence: fmt.Sprintf(format, args...)}
}

// LookAgain is after how long a step that waits for an event looks by itself.
const LookAgain = 5 * time.Second

// StepFunc does one step. An error that is permanent (trove.IsPermanent) starts the undo; any other is tried again with growing delay until
// the step's deadline. The context ends when the lease is in danger.
type StepFunc func(ctx context.Context, op *Op) (Outcome, error)

// Step is one named piece of an operation. Names are stored in the database and frozen: testdata/steps.golden lists them.
type Step struct {
	Name string
	// Says tells people what the step does while it has said nothing itself ("making the network"); "": its name.
	Says string
	Do   StepFunc
	// Undo removes what Do may have made, also when Do was cut off anywhere. nil: nothing to undo. It is retried until it succeeds.
	Undo StepFunc
	// Deadline is how long the step may take in all from its first start, waiting included. Past it the operation is undone with a sentence that
	// says what was waited for. 0: the operation's own deadline only; errors are then tried again for 10 minutes.
	Deadline time.Duration
	// Late is a sentence for people about what it means that the deadline has passed; "": none.
	Late string
	// Weight is the step's share of the percentage, 1 if 0.
	Weight int
}

// Definition is a kind of operation: its steps in order, and what is written when it ends.
type Definition struct {
	Kind  string
	Steps []Step
	// Closed runs in the transaction that ends the operation; cause is "" for OperationDone.
	Closed func(ctx context.Context, tx store.Tx, op *Op, state trove.OperationState, cause string) error
	// Deadline is how long the whole operation may take; 0: one hour.
	Deadline time.Duration
}

// Request is what is enqueued.
type Request struct {
	Kind      string
	Target    string
	ProjectID string
	RequestID string
	Input     any // marshalled to JSON; secrets in it are sealed texts
}
