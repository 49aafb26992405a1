package trove

import "time"

// StorageAlarm says that a data volume is filling up.
type StorageAlarm string

// The alarms. Each ends further down than it begins, so that a volume that hovers about a mark raises one alarm and not many.
const (
	StorageOK   StorageAlarm = ""
	StorageHigh StorageAlarm = "high" // from StorageHighAt on, until it is below StorageHighEnds
	StorageFull StorageAlarm = "full" // from StorageFullAt on, until it is below StorageFullEnds: writes are about to fail, or do
)

// The marks, in percent of the file system.
const (
	StorageHighAt   = 85
	StorageHighEnds = 80
	StorageFullAt   = 97
	StorageFullEnds = 95
)

// Next returns the alarm that follows this one when so much of a volume is used; without a total it stays.
func (a StorageAlarm) Next(used, total int64) StorageAlarm {
	if total <= 0 {
		return a
	}
	percent := float64(used) / float64(total) * 100
	switch {
	case percent >= StorageFullAt, a == StorageFull && percent >= StorageFullEnds:
		return StorageFull
	case percent >= StorageHighAt, a != StorageOK && percent >= StorageHighEnds:
		return StorageHigh
	}
	return StorageOK
}

// Storage is what is known and wanted of an instance's data volume beside its size.
type Storage struct {
	Alarm StorageAlarm `json:"alarm,omitempty"`
	Since time.Time    `json:"since,omitzero"` // when this alarm began

	Autoscale *Autoscale `json:"autoscale,omitempty"` // nil: the volume grows when somebody asks for it
	// Tried is when growth was begun or refused last, Operation what was begun and has not been looked at since, and Refusal why the last attempt
	// did not come to its end, "" if it did.
	Tried     time.Time `json:"tried,omitzero"`
	Operation string    `json:"operation,omitempty"`
	Refusal   string    `json:"refusal,omitempty"`
}

// Empty reports whether there is nothing to keep.
func (s *Storage) Empty() bool { return *s == (Storage{}) }

// Autoscale lets a volume grow before it is full.
type Autoscale struct {
	Threshold   int `json:"threshold"`              // percent of the file system in use from which on it grows
	StepGiB     int `json:"step_gib,omitempty"`     // by so much, or
	StepPercent int `json:"step_percent,omitempty"` // by so much of its size
	Max         int `json:"max"`                    // GiB it may grow to
}

// The bounds of an Autoscale. Below the lowest threshold a fresh volume would grow at once: the database's own files take their share.
const (
	AutoscaleLeastThreshold = 50
	AutoscaleMostThreshold  = 95
)

// AutoscalePause is between two attempts to grow a volume by itself.
const AutoscalePause = 5 * time.Minute

// Next returns the size that follows, not above the maximum; the same size when that is reached.
func (a *Autoscale) Next(size int) int {
	step := a.StepGiB
	if step == 0 {
		step = (size*a.StepPercent + 99) / 100
	}
	return max(size, min(size+max(1, step), a.Max))
}

// Due reports whether so much is in use that the volume is to grow.
func (a *Autoscale) Due(used, total int64) bool {
	return total > 0 && float64(used)/float64(total)*100 >= float64(a.Threshold)
}
