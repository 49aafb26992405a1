// Package specs says what the cloud shall have for an instance: the wishes that operations and reconcilers hand to the cloud port. Both
// derive them from the stored row here and nowhere else, so that a repair makes the same thing as the create did.
//
// It has no state; its values may be used from several goroutines as long as nobody writes to them.
package specs

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// Wish is an instance with what its datastore version says.
type Wish struct {
	Instance trove.Instance
	Version  trove.DatastoreVersion
	Group    cloud.Group // what its machine is placed by
}

// Load reads an instance and its datastore version.
func Load(ctx context.Context, r store.Reader, id string) (Wish, error) {
	i, err := r.Instance(ctx, id)
	if err != nil {
		return Wish{}, fmt.Errorf("read instance %s: %w", id, err)
	}
	v, err := r.DatastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return Wish{}, fmt.Errorf("read the datastore version of instance %s: %w", id, err)
	}
	g, err := GroupOf(ctx, r, &i)
	if err != nil {
		return Wish{}, fmt.Errorf("read what instance %s is placed with: %w", id, err)
	}
	return Wish{Instance: i, Version: v, Group: g}, nil
}

// HasVolume reports whether the data lives on a volume of its own.
func (w Wish) HasVolume() bool { return w.Instance.VolumeSize > 0 }

// Network returns the wish for the ports, with the given access rules.
func (w Wish) Network(access trove.Access) cloud.NetworkSpec {
	return cloud.NetworkSpec{
		Instance: w.Instance.ID,
		Project:  w.Instance.ProjectID,
		NICs:     w.Instance.NICs,
		Access:   access,
		TCPPorts: w.Version.Capabilities.Ports(),
	}
}

// Volume returns the wish for the data volume, with the given size in GiB.
func (w Wish) Volume(sizeGiB int) cloud.VolumeSpec {
	return cloud.VolumeSpec{
		Instance: w.Instance.ID,
		Project:  w.Instance.ProjectID,
		SizeGiB:  sizeGiB,
		Type:     w.Instance.VolumeType,
		Zone:     w.Instance.AvailabilityZone,
		ImageID:  w.Version.ImageID,
	}
}

// Machine returns the wish for the machine.
func (w Wish) Machine(f trove.Flavor, boot []byte) cloud.MachineSpec {
	return cloud.MachineSpec{
		Instance: w.Instance.ID,
		Project:  w.Instance.ProjectID,
		Name:     w.Instance.Name,
		ImageID:  w.Version.ImageID,
		Flavor:   f,
		Zone:     w.Instance.AvailabilityZone,
		BootData: boot,
		Group:    w.Group,
	}
}

// BootData returns what the machine reads at its first boot. An empty token is for a machine whose guest has enrolled before.
func (w Wish) BootData(e bus.Enrolment, token trove.Secret) ([]byte, error) {
	data, err := json.Marshal(bus.BootData{
		Instance:  w.Instance.ID,
		Engine:    w.Version.Manager,
		Token:     token.Reveal(),
		EnrolURLs: e.EnrolURLs(),
		CABundle:  e.CABundle(),
	})
	if err != nil {
		return nil, fmt.Errorf("write the boot data: %w", err)
	}
	return data, nil
}

// NewToken returns a new enrolment token of 256 random bits.
func NewToken() trove.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return trove.Secret(base64.RawURLEncoding.EncodeToString(b[:]))
}
