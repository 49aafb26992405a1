package wire

// Backup is a backup. What it has not is null: every key is always there.
type Backup struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Description Nullable        `json:"description"`
	Location    Nullable        `json:"locationRef"`
	InstanceID  Nullable        `json:"instance_id"`
	Created     Time            `json:"created"`
	Updated     Time            `json:"updated"`
	Size        *float64        `json:"size"` // GiB that the data took in the instance
	Status      string          `json:"status"`
	ParentID    Nullable        `json:"parent_id"`
	ProjectID   string          `json:"project_id"`
	Datastore   BackupDatastore `json:"datastore"`
}

// BackupDatastore is what the data of a backup is for. Type and Version are null when the version is gone.
type BackupDatastore struct {
	Type      Nullable `json:"type"`
	Version   Nullable `json:"version"`
	VersionID string   `json:"version_id,omitempty"`
}

// BackupBody wraps one backup.
type BackupBody struct {
	Backup Backup `json:"backup"`
}

// BackupList is a page; the marker of the next one is a number.
type BackupList struct {
	Backups []Backup `json:"backups"`
	Links   []Link   `json:"links,omitempty"`
}

// BackupCreateBody is the body of POST /backups.
type BackupCreateBody struct {
	Backup BackupCreate `json:"backup"`
}

// BackupCreate is a wanted backup of an instance, or with RestoreFrom one that is registered.
type BackupCreate struct {
	Name          string       `json:"name"`
	Description   string       `json:"description,omitempty"`
	Instance      string       `json:"instance,omitempty"`
	ParentID      string       `json:"parent_id,omitempty"`
	Incremental   int          `json:"incremental,omitempty"` // 1: on the last completed one
	Container     string       `json:"swift_container,omitempty"`
	StorageDriver string       `json:"storage_driver,omitempty"`
	RestoreFrom   *RestoreFrom `json:"restore_from,omitempty"`
}

// RestoreFrom names an object that is there already.
type RestoreFrom struct {
	RemoteLocation string  `json:"remote_location"`
	VersionID      string  `json:"local_datastore_version_id"`
	Size           float64 `json:"size"`
}

// RestorePoint names the backup that an instance is made from.
type RestorePoint struct {
	BackupRef string `json:"backupRef"`
}

// BackupStrategy names the container of backups: of an instance's, or of the project's where InstanceID is empty.
type BackupStrategy struct {
	ProjectID  string `json:"project_id"`
	InstanceID string `json:"instance_id"`
	Backend    string `json:"backend"`
	Container  string `json:"swift_container"`
}

// BackupStrategyBody wraps one strategy.
type BackupStrategyBody struct {
	Strategy BackupStrategy `json:"backup_strategy"`
}

// BackupStrategyList holds all strategies: there is no paging.
type BackupStrategyList struct {
	Strategies []BackupStrategy `json:"backup_strategies"`
}

// BackupStrategyCreateBody is the body of POST /backup_strategies.
type BackupStrategyCreateBody struct {
	Strategy BackupStrategyCreate `json:"backup_strategy"`
}

// BackupStrategyCreate is a wanted strategy; it replaces the one that is there.
type BackupStrategyCreate struct {
	InstanceID string `json:"instance_id,omitempty"`
	Container  string `json:"swift_container"`
}
