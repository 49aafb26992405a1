package cloud

import "context"

// Adopter is what a cloud has besides where it can take over what a Python Trove has made of an instance: its data volume and its ports on the networks of the tenant, with their
// addresses. The old server is stopped and kept as the way back; nothing is lost before FinishAdoption.
//
// Each method may be called any number of times, and goes one step further each time; what is not done yet is said in a sentence, and the caller looks again.
type Adopter interface {
	// FindForeign says what there is and what stands in the way. It changes nothing.
	FindForeign(ctx context.Context, a Adoption) (Foreign, error)
	// Adopt stops the old server, takes a snapshot of the volume, and makes volume and ports those of the instance, so that EnsureVolume and EnsureNetwork find them. With doing
	// "" it is done.
	Adopt(ctx context.Context, a Adoption) (doing string, err error)
	// GiveBack is the way back, when the instance has no machine: the volume is as in the snapshot again, and the old server runs with it and its ports.
	GiveBack(ctx context.Context, a Adoption) (doing string, err error)
	// FinishAdoption removes the old server, with what only it had, and the snapshot: there is no way back any more.
	FinishAdoption(ctx context.Context, a Adoption) (doing string, err error)
}

// Adoption names what is taken over.
type Adoption struct {
	Network  NetworkSpec // of the instance, without NICs
	ServerID string      // "": the one that the cloud still knows to be the old one
	VolumeID string
}

// Foreign is what another Trove has made of an instance.
type Foreign struct {
	ServerID  string // "": it is gone
	Server    string // its name
	State     string // of the server, in the cloud's own words
	VolumeGiB int
	Addresses []string // on networks of the tenant
	Problems  []string // sentences; with one it cannot be adopted
	Adopted   bool     // volume and ports are the instance's already
}
