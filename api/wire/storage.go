package wire

// StorageBody wraps the state of a data volume. It is not in Trove.
type StorageBody struct {
	Storage Storage `json:"storage"`
}

// Storage is how a data volume is and whether it grows by itself.
type Storage struct {
	Size        int      `json:"size"` // GiB
	Used        *float64 `json:"used"` // GiB, of the last heartbeat; null before the first
	UsedPercent *float64 `json:"used_percent"`

	Alarm      string `json:"alarm"`       // "", "high" or "full"
	AlarmSince *Time  `json:"alarm_since"` // null without an alarm

	Autoscale   *Autoscale `json:"autoscale,omitempty"` // absent: it grows when somebody asks for it
	LastAttempt *Time      `json:"last_attempt"`        // when it was last to grow by itself
	Refusal     string     `json:"refusal"`             // why that did not come to its end
}

// AutoscaleBody is the body of PUT /instances/{id}/storage/autoscale.
type AutoscaleBody struct {
	Autoscale Autoscale `json:"autoscale"`
}

// Autoscale lets a volume grow before it is full: from Threshold percent on by Step GiB or StepPercent percent of its size, up to Max GiB. One of the steps
// is set.
type Autoscale struct {
	Threshold   int `json:"threshold"`
	Step        int `json:"step,omitempty"`
	StepPercent int `json:"step_percent,omitempty"`
	Max         int `json:"max"`
}
