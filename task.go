package trove

// taskTexts are Trove's sentences for its tasks.
var taskTexts = map[Task]string{
	TaskNone:                "No tasks for the instance.",
	TaskDeleting:            "Deleting the instance.",
	TaskRebooting:           "Rebooting the instance.",
	TaskResizing:            "Resizing the instance.",
	TaskBuilding:            "The instance is building.",
	TaskMigrating:           "Migrating the instance.",
	TaskRestartRequired:     "Instance requires a restart.",
	TaskPromoting:           "Promoting the instance to replica source.",
	TaskEjecting:            "Ejecting the replica source.",
	TaskDetaching:           "Detaching the instance from replica source.",
	TaskUpdating:            "Updating the instance.",
	TaskBuildErrorDNS:       "Build error: DNS.",
	TaskBuildErrorServer:    "Build error: Server.",
	TaskBuildErrorVolume:    "Build error: Volume.",
	TaskBuildErrorSecGroup:  "Build error: Secgroup or rule.",
	TaskBuildErrorReplica:   "Build error: Replica.",
	TaskPromotionError:      "Replica Promotion Error.",
	TaskEjectionError:       "Replica Source Ejection Error.",
	TaskUpgrading:           "Upgrading the instance.",
	TaskUpgradingError:      "Error upgrading the instance.",
	TaskBuildErrorTimeout:   "Build error: Guestagent timeout.",
	TaskBuildErrorPort:      "Build error: Management port.",
	TaskUpdatingErrorAccess: "Error updating the access of the instance.",
	TaskGuestRevoked:        "The guest misused the bus and cannot be commanded any more.",
}

// Description returns the sentence that mgmt views show for the task, "" for one that is not known.
func (t Task) Description() string { return taskTexts[t] }
