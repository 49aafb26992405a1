package trove

import "time"

// The kinds of instance events. They are stored and therefore frozen; others may come, and whoever reads a kind that it does not know shows
// its sentence. A kind of a database's status is EventDatabase and the status.
const (
	EventDatabase             = "database."             // + ServiceStatus: the guest says that the database's status changed
	EventEngineFailed         = "engine.failed"         // the database's process ended by itself; Details are its log's last lines
	EventEngineDown           = "engine.down"           // the database does not get up: it fails again and again
	EventEngineBack           = "engine.back"           // and is up again after that
	EventEngineLeft           = "engine.left_stopped"   // an operation that failed has left the database stopped, and it is started
	EventGuestSilent          = "guest.silent"          // nothing was heard of the guest for a while
	EventGuestBack            = "guest.back"            // it is heard of again
	EventAgentRestarted       = "agent.restarted"       // the guest agent started again, the machine did not
	EventAgentChanged         = "agent.changed"         // another version of the guest agent runs
	EventAgentRefused         = "agent.refused"         // an upgrade of the guest agent did not come to its end: it was refused, or taken back
	EventAgentTakenBack       = "agent.taken_back"      // the guest says that it went back to an older version because a newer one was not well
	EventAgentDowngraded      = "agent.downgraded"      // an older version of the guest agent runs, and nobody asked for that
	EventMachineStarted       = "machine.started"       // the machine started again
	EventMachineRevived       = "machine.revived"       // the machine was not running and the control plane started it
	EventMachineFailed        = "machine.failed"        // the cloud says that the machine cannot run
	EventVolumeGone           = "volume.gone"           // the data volume is not there any more
	EventLimitsMended         = "limits.mended"         // somebody changed the machine's limits, and they were put right
	EventSpaceMended          = "space.mended"          // a part of the volume's reserved space was missing and was reserved again
	EventVolumeBack           = "volume.back"           // it was found again
	EventGuestRevoked         = "guest.revoked"         // the guest's key was revoked, the sentence says why
	EventGuestCopied          = "guest.copied"          // two machines report as the guest of one instance
	EventTokenReused          = "token.reused"          // somebody used the machine's enrolment token again
	EventNetworkMended        = "network.mended"        // somebody changed the instance's network on the host, and it was made again
	EventNetworkRefused       = "network.refused"       // the guest sent what it may not, or more than it may
	EventConfigurationRefused = "configuration.refused" // the database refuses what its configuration group says
	EventConfigurationDrift   = "configuration.drift"   // the running database has other values than it was given
	EventStorageHigh          = "storage.high"          // the data volume is filling up
	EventStorageFull          = "storage.full"          // the data volume is as good as full
	EventStorageOK            = "storage.ok"            // it has room again after that
	EventStorageGrows         = "storage.grows"         // the volume grows by itself
	EventStorageRefused       = "storage.refused"       // it was to grow by itself and could not, the sentence says why

	EventKeptDropped = "upgrade.dropped" // the data of before an upgrade is dropped because of its age, or because the volume gets full

	EventTaskDropped = "task.dropped" // a task without an operation was cleared
)

// InstanceEvent is one line of an instance's timeline beside those of its operations: something that happened to it.
type InstanceEvent struct {
	InstanceID string
	Seq        int64     // given by the store, by instance, in the order in which lines were made
	At         time.Time // when it happened, or happened last
	Kind       string    // "engine.failed"; at most 64 characters
	Sentence   string    // for people
	Details    string    // evidence, such as the last lines of a log; may be empty

	// Count is how often it happened since First; 0 and 1 are once, and First is At then.
	Count int
	First time.Time
}

// TimelineEntry is one line of an instance's whole timeline: an event of the instance, or one of an operation on it.
type TimelineEntry struct {
	InstanceEvent

	// OperationID and OperationKind are those of the operation, "" for an event of the instance. Kind is then "operation." and the outcome, and Seq
	// counts in the operation.
	OperationID   string
	OperationKind string
	Step          string
}

// Mark returns the entry's place in the timeline.
func (e *TimelineEntry) Mark() TimelineMark { return TimelineMark{e.At, e.OperationID, e.Seq} }

// TimelineMark is a place in a timeline. Entries are ordered by time; an event that happens again moves to its new time.
type TimelineMark struct {
	At          time.Time
	OperationID string
	Seq         int64
}
