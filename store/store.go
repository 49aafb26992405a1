// Package store is the port to the control plane's state: instances, what guests report, datastores, quotas, operations.
//
// The store is the only truth of the control plane. Every method of Store and Tx may be called from several goroutines, a Tx only
// inside the function that received it. Reads outside a transaction see the last commit. Not found is a trove.Error of kind
// NotFound with the message that Trove gives ("Resource <id> cannot be found."). Times are kept to the microsecond, in UTC.
//
// Drivers are in sqlstore; storetest is the suite that each must pass. Ports that need state of their own (identity/local, secrets/file,
// bus) declare a small repository interface in their package; the drivers implement those too.
package store

import (
	"context"
	"errors"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// ErrBusy is returned by Tx.EnqueueOperation when the target already has an open operation.
var ErrBusy = errors.New("the instance has an open operation")

// ErrLost is returned by the operation transitions when another worker has the row: the caller must drop what it was doing.
var ErrLost = errors.New("the operation belongs to another worker")

// Store is the state of the control plane.
type Store interface {
	Reader

	// InTx runs fn in one transaction and commits if fn returns nil. A conflict with another transaction (also one that shows only
	// at the commit) is rolled back and fn runs again, so fn must have no effect outside the transaction. Errors of fn
	// come back as they are.
	InTx(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error

	// Ping returns nil if the store answers; the health check uses it.
	Ping(ctx context.Context) error

	Close() error
}

// Reader is what can be read, inside a transaction or outside.
type Reader interface {
	Managed
	Backups
	Modules
	Clusters
	ConfigurationReader
	CertificateReader
	IdempotentCallReader
	AuditReader
	KeptDataReader
	ScrapeTokenReader

	// Instance returns a living instance with its guest's state joined.
	Instance(ctx context.Context, id string) (trove.Instance, error)
	// Instances returns a page, ordered by id; the cost does not depend on the size of the table.
	Instances(ctx context.Context, f InstanceFilter) ([]trove.Instance, error)
	// Replicas returns the ids of the replicas of each of the given instances that has any.
	Replicas(ctx context.Context, primaries ...string) (map[string][]string, error)
	RootHistory(ctx context.Context, instance string) (trove.RootHistory, error) // NotFound: never enabled

	Datastores(ctx context.Context) ([]trove.Datastore, error)
	// Datastore finds by id or name.
	Datastore(ctx context.Context, idOrName string) (trove.Datastore, error)
	DatastoreVersions(ctx context.Context, datastoreID string) ([]trove.DatastoreVersion, error) // "" for all
	// DatastoreVersion finds by id, whether active or not.
	DatastoreVersion(ctx context.Context, id string) (trove.DatastoreVersion, error)

	// Quotas returns the project's quotas, one for each known resource, with the defaults where none was set.
	Quotas(ctx context.Context, project string) ([]trove.Quota, error)

	Operation(ctx context.Context, id string) (trove.Operation, error)
	// CountOpenOperations returns how many operations are open.
	CountOpenOperations(ctx context.Context) (int, error)
	// OpenOperation returns the open operation of a target, or NotFound.
	OpenOperation(ctx context.Context, target string) (trove.Operation, error)
	// DueOperations returns rows that anyone may look at now, oldest first, at most limit. Workers read them outside a transaction.
	DueOperations(ctx context.Context, now time.Time, limit int) ([]OperationRow, error)
	// Operations returns the operations of an instance (also a deleted one), newest first.
	Operations(ctx context.Context, target string, limit int) ([]trove.Operation, error)
	// OperationLog returns the timeline of an operation from the given sequence number on, exclusive.
	OperationLog(ctx context.Context, operation string, after int64) ([]trove.OperationEvent, error)

	// InstanceEvents returns events of an instance (also of a deleted one) by Seq, from the given one on, exclusive; at most limit, 0 for all.
	InstanceEvents(ctx context.Context, instance string, afterSeq int64, limit int) ([]trove.InstanceEvent, error)
	// Timeline returns events of an instance and of its operations as one list in the order of time, from the mark on, exclusive; at most limit.
	// The zero mark is the beginning.
	Timeline(ctx context.Context, instance string, after trove.TimelineMark, limit int) ([]trove.TimelineEntry, error)

	// Guest returns the enrolment state of an instance's guest.
	Guest(ctx context.Context, instance string) (Guest, error)
	// TokenOwner returns the living instance whose enrolment token has the hash, used or not, or NotFound.
	TokenOwner(ctx context.Context, tokenHash string) (instance string, err error)
	// Report returns what the guest last said of an operation: progress or the end.
	Report(ctx context.Context, operation string) (Report, error)
}

// InstanceFilter chooses a page of instances.
type InstanceFilter struct {
	ProjectID string  // "": all projects
	Name      string  // "": any name; else exactly this one
	Marker    string  // ids after this one
	Limit     int     // 0: no limit
	Deleted   *bool   // nil: living ones only; else exactly the deleted or the living ones
	Cluster   *string // nil: any; else exactly the members of this cluster, "": those in no cluster

	// For reconcilers.
	SilentSince time.Time // not zero: only those not seen since then
}

// Tx is a transaction: everything that can be read and written.
type Tx interface {
	Reader
	Operations
	BackupsTx
	ModulesTx
	ClustersTx
	ConfigurationWriter
	CertificateWriter
	IdempotentCalls
	Holds
	Audit
	KeptDataWriter
	ScrapeTokens

	InsertInstance(ctx context.Context, i trove.Instance) error
	// UpdateInstance reads the instance, lets change alter it and writes every column but id, project and guest state. Updated is
	// set to now. The error of change comes back as it is.
	UpdateInstance(ctx context.Context, id string, now time.Time, change func(*trove.Instance) error) error
	// DeleteInstance marks the instance deleted and drops its guest's state, key and token, and which modules it has. Gone is fine.
	DeleteInstance(ctx context.Context, id string, now time.Time) error
	SetRootHistory(ctx context.Context, h trove.RootHistory) error

	// PutDatastore and PutDatastoreVersion insert or replace by id.
	PutDatastore(ctx context.Context, d trove.Datastore) error
	PutDatastoreVersion(ctx context.Context, v trove.DatastoreVersion) error
	// DeleteDatastore and DeleteDatastoreVersion, the latter with its parameters, do not look who needs it: see Holds.
	DeleteDatastore(ctx context.Context, id string) error
	DeleteDatastoreVersion(ctx context.Context, id string) error

	// TakeQuota adds the amounts to what the project uses, all or none. Beyond a limit it is an OverLimit error with Trove's message
	// "Quota exceeded for resources: ['instances']." GiveQuota takes them back, never below zero.
	TakeQuota(ctx context.Context, project string, amounts map[string]int) error
	GiveQuota(ctx context.Context, project string, amounts map[string]int) error
	SetQuota(ctx context.Context, project, resource string, limit int) error

	// PutEnrolmentToken replaces the instance's token; only its hash is kept.
	PutEnrolmentToken(ctx context.Context, instance string, tokenHash string, expires time.Time) error
	// UseEnrolmentToken marks a token as used and stores the key that the guest made, in one step. A token that is unknown or expired
	// is Unauthorized; one that was used is Conflict, unless the same key asks again within a minute (a lost answer).
	UseEnrolmentToken(ctx context.Context, tokenHash, publicKey string, now time.Time) (instance string, err error)
	// SetGuestCredential notes how long the credential lives that was given last.
	SetGuestCredential(ctx context.Context, instance string, expires time.Time) error
	// SetGuestTrust notes what that credential tells the guest of the bus (bus.Credential.Trust); "": it is not known whether the guest took it.
	SetGuestTrust(ctx context.Context, instance, trust string) error

	// RecordReports writes what guests said, many at a time; reports of instances that do not exist are dropped. A service status is not
	// overwritten while the stored one is RESTART_REQUIRED (Trove's conductor does the same), unless the boot id changed or the report
	// says that the engine was restarted.
	RecordReports(ctx context.Context, reports []GuestReport) error
	// SetGuestEvent notes which event of the guest was written last: GuestState.EventAt.
	SetGuestEvent(ctx context.Context, instance string, at int64) error
	// SetServiceStatus overrides what the guest said, until it says something else.
	SetServiceStatus(ctx context.Context, instance string, s trove.ServiceStatus, now time.Time) error
	// PutReport writes what a guest said of an operation. A progress after the end is dropped.
	PutReport(ctx context.Context, r Report) error

	// AppendInstanceEvent writes a line into the instance's timeline. Seq is given by the store, which keeps the newest KeptEvents of each
	// instance. The instance need not live.
	AppendInstanceEvent(ctx context.Context, e trove.InstanceEvent) error
	// CountInstanceEvent is AppendInstanceEvent for what may happen again and again: a line of the same kind that began less than within before
	// e.At is counted up, and takes over time, sentence and details, instead of a new one.
	CountInstanceEvent(ctx context.Context, e trove.InstanceEvent, within time.Duration) error
}

// KeptEvents is how many events of each instance are kept; the oldest go first.
const KeptEvents = 1000

// Guest is the enrolment state of an instance's guest.
type Guest struct {
	InstanceID     string
	PublicKey      string // the nkey that the guest made; "" before it enrolled
	TokenUsed      time.Time
	CredentialEnds time.Time
	Trust          string // what its credential tells it of the bus; "": not known
	// BootReturns is how often a boot of the machine was heard of again after it had been replaced by another one: two machines share the identity.
	BootReturns int
}

// copiedAfter is how often a boot must come back before it is sure that there are two. A report that was under way for long counts twice: the boot of before comes back
// with it, and the present one after it.
const copiedAfter = 3

// Copied says that two machines report as this guest.
func (g Guest) Copied() bool { return g.BootReturns >= copiedAfter }

// GuestReport is one heartbeat or hello.
type GuestReport struct {
	InstanceID   string
	SeenAt       time.Time // the conductor's clock
	BootID       string
	Service      trove.ServiceStatus
	AgentVersion string
	EngineStart  int64 // when the engine process started, by the guest's clock, microseconds; 0 while it does not run
	VolumeUsed   int64
	VolumeTotal  int64
	AgentStart   int64 // 0: the agent did not say; what is known stays
}

// Report is what a guest said of an operation that it was given.
type Report struct {
	OperationID string // the command's operation id: "<operation>/<step>" of the taskmanager
	InstanceID  string
	At          time.Time
	Done        bool
	Error       string // "": it went well
	ErrorKind   trove.Kind
	Sentence    string
	Percent     int
	Result      []byte // JSON
}

// Operations are the transitions of durable operations, as internal/workflow needs them; bus-and-operations.md section 7 has the statements.
// Each returns ErrLost when the row is not in the expected state any more.
type Operations interface {
	// EnqueueOperation inserts an open operation and locks its target, or returns ErrBusy.
	EnqueueOperation(ctx context.Context, o OperationRow) error
	// ClaimOperation takes a due row for owner until the lease's end and returns it as it is then.
	ClaimOperation(ctx context.Context, seen OperationRow, owner string, leaseEnd time.Time) (OperationRow, error)
	// RenewOperations extends all of an owner's leases and returns how many there were.
	RenewOperations(ctx context.Context, owner string, leaseEnd time.Time) (int, error)
	// TakeOverOperations releases every claimed row, due at the given time unless it was due before, and returns how many there were. Who had claimed
	// them writes nothing more. It is for the only engine of a store when it starts.
	TakeOverOperations(ctx context.Context, due time.Time) (int, error)
	// SaveOperation writes a claimed row: step, direction, attempt, notes, sentence, percent, error, deadline, start of the step; and wakes it
	// at row.WakeAt. With an empty Owner the row is released; if events came since row.Events was read it is due at once (now). Claim must be
	// the claimed one. The row comes back as it is then, with a cancel and the events that came meanwhile.
	SaveOperation(ctx context.Context, o OperationRow, now time.Time) (OperationRow, error)
	// CloseOperation ends a claimed row in the given state and unlocks its target.
	CloseOperation(ctx context.Context, o OperationRow, state trove.OperationState, now time.Time) error
	// SayOperation changes the sentence and the percentage only, so that people see what goes on. It needs no claim and is dropped if
	// the operation is closed.
	SayOperation(ctx context.Context, id, sentence string, percent int, now time.Time) error
	// SignalOperation makes the open operation of a target due, because something that it may wait for has happened.
	SignalOperation(ctx context.Context, target string, now time.Time) error
	// CancelOperation asks an open operation to stop and undo. NotFound if it is not open.
	CancelOperation(ctx context.Context, id string, now time.Time) error
	AppendOperationLog(ctx context.Context, e trove.OperationEvent) error // Seq is given by the store
}

// OperationRow is an operation as workers see it.
type OperationRow struct {
	trove.Operation
	Owner       string    // "" while nobody has claimed it
	WakeAt      time.Time // when anyone may look at it
	Claim       int64     // raised with each transition: what the compare-and-swap compares. Version counts what people see, which needs no claim
	Events      int64
	StepStarted time.Time // when the step ran first; zero before
	Input       []byte    // JSON, written once
	Notes       []byte    // JSON, what steps remember
}
