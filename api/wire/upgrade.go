package wire

// UpgradeBody is the body of GET /instances/{id}/upgrade.
type UpgradeBody struct {
	Upgrade Upgrade `json:"upgrade"`
}

// Upgrade is what is known of upgrades of an instance.
type Upgrade struct {
	Kept  *KeptData     `json:"kept,omitempty"`  // absent: the last upgrade was confirmed or taken back, or there was none
	Check *UpgradeCheck `json:"check,omitempty"` // if it was asked for
}

// KeptData is the data of before the last upgrade, which lies on the volume of the instance.
type KeptData struct {
	DatastoreVersion   string `json:"datastore_version"`
	DatastoreVersionID string `json:"datastore_version_id"`
	Since              Time   `json:"since"`
	Bytes              int64  `json:"bytes"` // what it had then; it takes as much of the volume as has changed since where blocks are shared
}

// UpgradeCheck is what a change to another version would meet.
type UpgradeCheck struct {
	DatastoreVersion string           `json:"datastore_version"`
	From             string           `json:"from"`
	Possible         bool             `json:"possible"` // nothing blocks
	Findings         []UpgradeFinding `json:"findings"`
	Programs         string           `json:"programs"` // the version that runs, as the database says it
	Bytes            int64            `json:"bytes"`    // of the data
	Free             int64            `json:"free"`     // bytes on the volume
	Reflink          bool             `json:"reflink"`  // keeping the data takes no space until it changes
}

// UpgradeFinding is something that was found.
type UpgradeFinding struct {
	Blocks   bool   `json:"blocks"`
	Sentence string `json:"sentence"`
}
