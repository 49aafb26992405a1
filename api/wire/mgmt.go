package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// MgmtInstance is an instance as administrators see it: the details, and what the cloud and the guest say.
type MgmtInstance struct {
	Instance

	Volume          any         `json:"volume"` // in lists as everywhere, alone a MgmtVolume; null where there is none
	Server          *MgmtServer `json:"server"` // null while there is no machine
	ServiceStatus   string      `json:"service_status"`
	Deleted         bool        `json:"deleted"`
	DeletedAt       *Time       `json:"deleted_at"`
	TaskDescription string      `json:"task_description"`

	RootEnabled   *Time        `json:"root_enabled,omitempty"` // when the superuser was enabled last; alone only, like the next two
	RootEnabledBy string       `json:"root_enabled_by,omitempty"`
	GuestStatus   *GuestStatus `json:"guest_status,omitempty"`
}

// MgmtServer is an instance's machine.
type MgmtServer struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Status    string    `json:"status"`
	TenantID  string    `json:"tenant_id"`
	Host      Nullable  `json:"host"` // null where it is not known
	Addresses *struct{} `json:"addresses,omitempty"`
}

// MgmtVolume is an instance's data volume. Sizes are in GiB.
type MgmtVolume struct {
	Attachments      []VolumeAttachment `json:"attachments"`
	AvailabilityZone Nullable           `json:"availability_zone"`
	CreatedAt        PreciseTime        `json:"created_at"`
	ID               string             `json:"id"`
	Size             int                `json:"size"`
	Status           string             `json:"status"`
	Used             *float64           `json:"used"` // of the file system, like Total; null while it is not known
	Total            *float64           `json:"total"`
}

// VolumeAttachment names the machine that has a volume.
type VolumeAttachment struct {
	ServerID string `json:"server_id"`
}

// GuestStatus is what the guest says of its database, in small letters.
type GuestStatus struct {
	StateDescription string `json:"state_description"`
}

// PreciseTime is a time with microseconds, as Cinder's are.
type PreciseTime time.Time

const preciseLayout = Layout + ".000000"

// MarshalJSON prints the time in UTC.
func (t PreciseTime) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Time(t).UTC().Format(preciseLayout) + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON prints.
func (t *PreciseTime) UnmarshalJSON(data []byte) error {
	var text string
	err := json.Unmarshal(data, &text)
	if err == nil {
		var v time.Time
		v, err = time.Parse(preciseLayout, text)
		*t = PreciseTime(v)
	}
	if err != nil {
		return fmt.Errorf("read a time: %w", err)
	}
	return nil
}

// MgmtInstanceBody wraps one instance.
type MgmtInstanceBody struct {
	Instance MgmtInstance `json:"instance"`
}

// MgmtInstanceList is a page of all projects' instances, the last changed first.
type MgmtInstanceList struct {
	Instances []MgmtInstance `json:"instances"`
	Links     []Link         `json:"links,omitempty"`
}

// MgmtAction is the body of POST /mgmt/instances/{id}/action: one of the fields is set.
type MgmtAction struct {
	Stop            *struct{}         `json:"stop,omitempty"`
	Reboot          *struct{}         `json:"reboot,omitempty"`
	Migrate         *Migrate          `json:"migrate,omitempty"`
	ResetTaskStatus *struct{}         `json:"reset-task-status,omitempty"`
	Rebuild         *Rebuild          `json:"rebuild,omitempty"`
	UpgradeAgent    *UpgradeAgentArgs `json:"upgrade_agent,omitempty"`
}

// Migrate says where the machine shall go; "": anywhere else.
type Migrate struct {
	Host string `json:"host,omitempty"`
}

// Rebuild says which image the new machine is made of.
type Rebuild struct {
	ImageID string `json:"image_id"`
}

// MgmtUpgrade is the body of POST /mgmt/instances/{id}/upgrade.
type MgmtUpgrade struct {
	Upgrade MgmtUpgradeArgs `json:"upgrade"`
}

// MgmtUpgradeArgs name a release of the guest agent.
type MgmtUpgradeArgs struct {
	InstanceVersion string `json:"instance_version"`
}

// RootHistoryBody is the body of GET /mgmt/instances/{id}/root.
type RootHistoryBody struct {
	RootHistory RootHistory `json:"root_history"`
}

// RootHistory says when the superuser was enabled last and by whom: "Never" and "Nobody" if it never was.
type RootHistory struct {
	ID      string `json:"id"`
	Enabled string `json:"enabled"`
	User    string `json:"user"`
}

// HardwareBody is the body of GET /mgmt/instances/{id}/hwinfo.
type HardwareBody struct {
	HWInfo Hardware `json:"hwinfo"`
}

// Hardware is what the guest has: memory in KiB.
type Hardware struct {
	MemTotal int64 `json:"mem_total"`
	NumCPUs  int   `json:"num_cpus"`
}

// DiagnosticsBody is the body of GET /mgmt/instances/{id}/diagnostics.
type DiagnosticsBody struct {
	Diagnostics Diagnostics `json:"diagnostics"`
}

// Diagnostics are the figures of the guest agent's process, in KiB where they are of memory.
type Diagnostics struct {
	Version string `json:"version"`
	Threads int    `json:"threads"`
	FDSize  int    `json:"fdSize"`
	VMSize  int64  `json:"vmSize"`
	VMPeak  int64  `json:"vmPeak"`
	VMRSS   int64  `json:"vmRss"`
	VMHWM   int64  `json:"vmHwm"`
}
