package trove

import "time"

// OperationState is where an operation stands.
type OperationState string

// The states. Open is the only one that changes.
//
//	open ──► done      every step was done
//	  │ └──► undone    a step failed, its time passed or the user cancelled, and what was made was removed
//	  └────► failed    the same for an operation whose kind has nothing to undo
const (
	OperationOpen   OperationState = "open"
	OperationDone   OperationState = "done"
	OperationFailed OperationState = "failed"
	OperationUndone OperationState = "undone"
)

// Operation is a durable piece of long work on one instance, as users see it.
type Operation struct {
	ID        string
	Kind      string // "instance.create", "instance.resize_volume", ...
	Target    string // the instance's id
	ProjectID string
	RequestID string // of the API call that asked for it
	State     OperationState
	Undoing   bool   // steps run backwards: something failed or was cancelled
	Step      string // the name of the step it is in
	StepNo    int    // 0-based
	Steps     int    // how many there are
	Attempt   int
	Sentence  string // what is being done or waited for, for people
	Percent   int    // 0 to 100
	Cancelled bool   // a cancel was asked for
	Error     string // why it failed, for people; "" while it has not
	Created   time.Time
	Updated   time.Time
	Deadline  time.Time
	Version   int64 // raised with each change: the `since` of the long poll
}

// OperationEvent is one line of an operation's timeline.
type OperationEvent struct {
	OperationID string
	Seq         int64
	At          time.Time
	Step        string
	Outcome     string // "started", "again", "waiting", "done", "failed", "undone", "cancelled", "closed"
	Sentence    string
}
