package trove

// The kinds of operations. They are stored and therefore frozen.
const (
	OpCreate       = "instance.create"        // CreateInput
	OpDelete       = "instance.delete"        // no input
	OpRestart      = "instance.restart"       // RestartInput, or none
	OpStop         = "instance.stop"          // no input
	OpStart        = "instance.start"         // no input
	OpResizeFlavor = "instance.resize_flavor" // ResizeFlavorInput
	OpResizeVolume = "instance.resize_volume" // ResizeVolumeInput
	OpUpdateAccess = "instance.update_access" // UpdateAccessInput

	OpUpgradeAgent = "instance.upgrade_agent" // UpgradeAgentInput

	OpStopEngine = "instance.stop_engine" // no input
	OpReboot     = "instance.reboot"      // no input
	OpRebuild    = "instance.rebuild"     // no input
	OpMigrate    = "instance.migrate"     // MigrateInput

	OpUpgrade         = "instance.upgrade"          // UpgradeInput
	OpUpgradeRollback = "instance.upgrade_rollback" // RollbackInput
	OpUpgradeConfirm  = "instance.upgrade_confirm"  // no input
)

// CreateInput is what a create needs beside the instance's row.
type CreateInput struct {
	Flavor    Flavor     `json:"flavor"`
	Databases []Database `json:"databases,omitempty"`
	// Sealed holds a CreateSecrets as JSON, sealed for the purpose SecretPurpose(instance).
	Sealed string `json:"sealed,omitempty"`
	// Adopt says that volume and network are there, with the data of a Python Trove: nothing is made instead of them, and they stay when it fails.
	Adopt bool `json:"adopt,omitempty"`
}

// CreateSecrets are the secrets of a create.
type CreateSecrets struct {
	Users        []CreateUser `json:"users,omitempty"`
	RootPassword string       `json:"root_password,omitempty"`
}

// CreateUser is a user to be made with the instance, its password in clear: it exists sealed, and on its way to the guest.
type CreateUser struct {
	Name      string   `json:"name"`
	Host      string   `json:"host,omitempty"`
	Password  string   `json:"password"`
	Databases []string `json:"databases,omitempty"`
}

// SecretPurpose is what the secrets of an instance's operations are sealed for.
func SecretPurpose(instance string) string { return "operation:" + instance }

// RestartInput says why an instance is restarted.
type RestartInput struct {
	// LeftStopped says that nobody asked for it: an operation that failed has left the database stopped.
	LeftStopped bool `json:"left_stopped,omitempty"`
}

// ResizeFlavorInput is the change of flavor; both are kept whole, because the catalogue may lose one meanwhile.
type ResizeFlavorInput struct {
	Old Flavor `json:"old"`
	New Flavor `json:"new"`
}

// ResizeVolumeInput is the change of size, in GiB.
type ResizeVolumeInput struct {
	Old int `json:"old"`
	New int `json:"new"`
}

// UpdateAccessInput is the change of access rules.
type UpdateAccessInput struct {
	Old Access `json:"old"`
	New Access `json:"new"`
}

// UpgradeAgentInput says which release of the guest agent shall run.
type UpgradeAgentInput struct {
	Version        string `json:"version,omitempty"`         // "": the newest that the deployment has
	HealthySeconds int    `json:"healthy_seconds,omitempty"` // how long it may take to be well; 0: the guest's default
}

// MigrateInput says where the machine shall go.
type MigrateInput struct {
	Host string `json:"host,omitempty"` // "": any other host than the one that it is on
}
