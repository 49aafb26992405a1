package trove

import "time"

// Module is content for the guests of instances, such as a licence. It belongs to a project, or to all of them.
type Module struct {
	ID                 string
	ProjectID          string // "": all projects
	Name               string
	Type               string
	Description        string // "": none
	Contents           string // sealed for ModulePurpose; the text that was sent, which clients encode in base64
	MD5                string // of the text that was sent, in hexadecimal
	DatastoreID        string // "": for every datastore
	DatastoreVersionID string // "": for every version
	AutoApply          bool
	Visible            bool
	LiveUpdate         bool // may change while instances have it
	PriorityApply      bool
	ApplyOrder         int
	IsAdmin            bool // only administrators change it
	Created            time.Time
	Updated            time.Time
}

// ModulePurpose is what the contents of a module are sealed for.
func ModulePurpose(id string) string { return "module:" + id }

// InstanceModule says that an instance has a module, and in which state of its contents.
type InstanceModule struct {
	InstanceID string
	ModuleID   string
	MD5        string
	Created    time.Time
	Updated    time.Time
}
