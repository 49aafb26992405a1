package trove

import "time"

// BackupState is where a backup stands; the words are Trove's and are stored.
type BackupState string

// The states. The first three are those of a backup that runs.
//
//	NEW ──► BUILDING ──► (SAVING) ──► COMPLETED
//	                        └───────► FAILED
//	RESTORED: registered from an object that was there before; DELETE_FAILED: its object could not be removed
const (
	BackupNew          BackupState = "NEW"
	BackupBuilding     BackupState = "BUILDING"
	BackupSaving       BackupState = "SAVING"
	BackupCompleted    BackupState = "COMPLETED"
	BackupFailed       BackupState = "FAILED"
	BackupRestored     BackupState = "RESTORED"
	BackupDeleteFailed BackupState = "DELETE_FAILED"
)

// Running reports whether the backup is still being made.
func (s BackupState) Running() bool {
	return s == BackupNew || s == BackupBuilding || s == BackupSaving
}

// Usable reports whether an instance can be made from the backup.
func (s BackupState) Usable() bool { return s == BackupCompleted || s == BackupRestored }

// BackupExpiry is how long a backup may run before it is taken for one that nobody makes any more, and can be deleted: Trove's
// running_backups_expires.
const BackupExpiry = 3 * 24 * time.Hour

// Backup is a copy of an instance's data outside the instance. It outlives it.
type Backup struct {
	ID                 string
	ProjectID          string
	InstanceID         string // "" for one that was registered
	Name               string
	Description        string // "": none
	ParentID           string // "" for a full backup
	State              BackupState
	Location           string  // where its object is; "" while there is none
	Size               float64 // GiB that the data took in the instance; 0: not known
	Checksum           string
	DatastoreVersionID string
	StorageDriver      string
	Created            time.Time
	Updated            time.Time
}

// Busy reports whether the backup is being made: one that has not moved for BackupExpiry is not.
func (b *Backup) Busy(now time.Time) bool {
	return b.State.Running() && now.Sub(b.Updated) < BackupExpiry
}

// BackupStrategy names the container of a project's backups, or of one instance's.
type BackupStrategy struct {
	ProjectID  string
	InstanceID string // "": the project's default
	Backend    string
	Container  string
	Created    time.Time
}

// BackendSwift is the one backend that a BackupStrategy can name.
const BackendSwift = "swift"
