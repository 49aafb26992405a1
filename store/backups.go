package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Backups is what can be read of backups and their strategies.
type Backups interface {
	// Backup returns a living backup.
	Backup(ctx context.Context, id string) (trove.Backup, error)
	// BackupDeleted reports whether there was a backup that has been deleted.
	BackupDeleted(ctx context.Context, id string) (bool, error)
	// Backups returns living backups, those that changed last first.
	Backups(ctx context.Context, f BackupFilter) ([]trove.Backup, error)
	// BackupStrategies returns strategies ordered by project and instance.
	BackupStrategies(ctx context.Context, f StrategyFilter) ([]trove.BackupStrategy, error)
}

// BackupFilter chooses backups. What is empty chooses nothing in particular.
type BackupFilter struct {
	ProjectID   string
	InstanceID  string
	ParentID    string
	DatastoreID string
	States      []trove.BackupState // one of these
	Offset      int
	Limit       int // 0: no limit
}

// StrategyFilter chooses backup strategies. What is empty chooses nothing in particular.
type StrategyFilter struct {
	ProjectID  string
	InstanceID string
}

// BackupsTx is what can be written. Whoever inserts or deletes a backup takes or gives back quota in the same transaction.
//
// Each of the methods keeps Instance.BackingUp of the backup's instance and raises the instance's version with it, so they are not to be called from
// within the change of an UpdateInstance of that instance.
type BackupsTx interface {
	InsertBackup(ctx context.Context, b trove.Backup) error
	// UpdateBackup reads the backup, lets change alter it and writes every column but id, project, instance and created. Updated is set to now.
	UpdateBackup(ctx context.Context, id string, now time.Time, change func(*trove.Backup) error) error
	// DeleteBackup marks the backup deleted. Gone is fine.
	DeleteBackup(ctx context.Context, id string, now time.Time) error

	// PutBackupStrategy inserts or replaces by project and instance.
	PutBackupStrategy(ctx context.Context, s trove.BackupStrategy) error
	// DeleteBackupStrategy removes the strategy of an instance, or with "" the project's default. Gone is fine.
	DeleteBackupStrategy(ctx context.Context, project, instance string) error
}
